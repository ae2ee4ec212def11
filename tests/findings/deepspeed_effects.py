"""Experiments with DeepSpeed's engine on real ranks: what it shards, saves and refuses."""

from __future__ import annotations

import tempfile
from pathlib import Path

import deepspeed
import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import DeepSpeedPlugin
from effect_ranks import Results, clean, experiment, model_of, prepared, refusal, with_lora
from quantized_effects import base_bytes

# An operator of shared memory that nothing here needs: compiling it takes a minute, and a process that is killed
# while it does leaves a lock on which every later one waits (torch/utils/file_baton.py, 2.13).
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False

NO_PERSISTENCE = {"stage3_param_persistence_threshold": 0}


def start_zero(stage: int, precision: str = "bf16", **settings: object) -> Accelerator:
    """Return an Accelerator with ZeRO of a stage; a mapping in `zero` adds to zero_optimization."""
    clean()
    zero = settings.pop("zero", NO_PERSISTENCE if stage == 3 else {})
    config = {
        "train_micro_batch_size_per_gpu": 2,
        "gradient_accumulation_steps": 1,
        precision: {"enabled": True},
        "zero_optimization": {"stage": stage, **zero},
        "zero_force_ds_cpu_optimizer": False,
        **settings,
    }
    return Accelerator(
        deepspeed_plugin=DeepSpeedPlugin(hf_ds_config=config), mixed_precision=precision
    )


@experiment
def frozen_base_under_zero() -> Results:
    """This rank's bytes of the base below adapters, whole and after `prepare`, by stage."""
    found: Results = {}
    for stage in (1, 2, 3):
        accelerator = start_zero(stage)
        model = with_lora(model_of(torch.bfloat16))
        found["whole"] = base_bytes(model)
        model, _ = prepared(accelerator, model)
        found[f"zero{stage}"] = base_bytes(model)
    return found


@experiment
def gradient_dtype_without_zero() -> Results:
    def run(stage: int, dtype: str) -> str:
        accelerator = start_zero(stage, data_types={"grad_accum_dtype": dtype})
        return refusal(lambda: prepared(accelerator, model_of(torch.bfloat16)))

    return {
        "zero0 fp32": run(0, "fp32"),
        "zero0 bf16": run(0, "bf16"),
        "zero1 fp32": run(1, "fp32"),
    }


@experiment
def weights_saved_by_zero3() -> Results:
    """The files of a checkpoint's folder, by whether the weights are gathered."""
    found: Results = {}
    for gathers in (False, True):
        accelerator = start_zero(
            3, zero={**NO_PERSISTENCE, "stage3_gather_16bit_weights_on_model_save": gathers}
        )
        model, _ = prepared(accelerator, model_of(torch.bfloat16))
        with tempfile.TemporaryDirectory() as folder:
            folders = [folder]
            dist.broadcast_object_list(folders, src=0)
            said = refusal(
                lambda a=accelerator, m=model, f=folders[0]: a.unwrap_model(m).save_pretrained(
                    f,
                    is_main_process=a.is_main_process,
                    save_function=a.save,
                    state_dict=a.get_state_dict(m),
                )
            )
            files = sorted(path.name for path in Path(folder).iterdir())
            dist.barrier()
        found[f"gathers {gathers}"] = {"refused": said, "files": files}
    return found


@experiment
def offloaded_parameters() -> Results:
    """Whether the stage's optimizer offloads the parameters that offload_param asks the host for; None where it cannot."""
    found: Results = {}
    for stage in (2, 3):
        offload = {"offload_param": {"device": "cpu", "pin_memory": False}}
        accelerator = start_zero(stage, zero=offload)
        model, _ = prepared(accelerator, model_of(torch.bfloat16))
        found[f"zero{stage}"] = getattr(model.optimizer, "offload_param", None)
    return found
