"""Train a small Llama on gloo ranks as axolotl divides it, and count what each rank holds.

Usage: torchrun --nproc-per-node RANKS divided_axolotl.py < CASES.jsonl > ROWS.jsonl
A case has keys of an axolotl config in `config`. axolotl's own functions make of them what accelerate reads and the mesh
that the model is loaded over (utils/trainer.py prepare_optim_env and loaders/model.py _build_model, 0.19.0), and nothing here.
"""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import Any

import divided_accelerate
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from axolotl.utils import distributed
from axolotl.utils.dict import DictDefault
from axolotl.utils.trainer import prepare_optim_env
from torch.distributed import device_mesh

SECTIONS = ("ACCELERATE_USE", "ACCELERATE_MIXED", "FSDP_", "PARALLELISM_")
build = device_mesh.init_device_mesh


def on_cpu(device: str, *shape: Any, **names: Any) -> Any:
    """Return a mesh of the ranks of a CPU where axolotl asks for those of GPUs."""
    return build("cpu", *shape, **names)


device_mesh.init_device_mesh = on_cpu


def config_of(case: dict[str, Any]) -> DictDefault:
    """Return the config of a case, with what axolotl's validation adds to it."""
    return DictDefault({"tensor_parallel_size": 1, "context_parallel_size": 1, **case["config"]})


def accelerator_of(case: dict[str, Any]) -> Accelerator:
    """Return the Accelerator that transformers' Trainer makes under the variables that axolotl sets."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    for name in [n for n in os.environ if n.startswith(SECTIONS)]:
        del os.environ[name]
    prepare_optim_env(config_of(case))
    return Accelerator()


def loaded_over(case: dict[str, Any]) -> dict[str, Any]:
    """Return what axolotl loads a model with that is divided by tensor parallelism."""
    config = config_of(case)
    if config.tensor_parallel_size == 1:
        return {}
    _, mesh = distributed.build_parallelism_config(config)
    return {"tp_size": config.tensor_parallel_size, "tp_plan": "auto", "device_mesh": mesh}


def settle_loaded(model: Any, case: dict[str, Any]) -> None:
    """Tell a model how it was divided, as _build_model does for transformers that did not (loaders/model.py:1089-1094)."""
    config = config_of(case)
    if config.tensor_parallel_size > 1 and model._tp_size != config.tensor_parallel_size:
        model._tp_size = config.tensor_parallel_size
        model._device_mesh = distributed.build_parallelism_config(config)[1]


divided_accelerate.settle_loaded = settle_loaded
divided_accelerate.accelerator_of = accelerator_of
divided_accelerate.loaded_over = lambda case, accelerator: loaded_over(case)
divided_accelerate.VERSIONS["axolotl"] = version("axolotl")

if __name__ == "__main__":
    divided_accelerate.main()
