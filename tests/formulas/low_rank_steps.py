"""Take real steps of GaLore's and APOLLO's optimizers as Trainer makes them, on a CPU, and print the rows of low_rank.jsonl.

    PYTHONPATH=ROOT:ROOT/tests/formulas:FOLDER python ROOT/tests/formulas/low_rank_steps.py > ROOT/tests/formulas/low_rank.jsonl

FOLDER has galore_torch 1.0 and apollo_torch 1.0.3 with their dist-info; both need torch and transformers alone, and
bitsandbytes for 8 bits. `states` is what the optimizer keeps after two steps, without bitsandbytes' code books and single
numbers; `step` the most that the third makes beside it, or that any one of its steps does where each tensor has its own.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import torch
from allocations import Allocations
from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainingArguments

CONFIG = {
    "model_type": "llama", "hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 512, "tie_word_embeddings": False,
}  # fmt: skip
EVERY_STEP = "update_proj_gap=1"
KINDS = {
    "galore_adamw": ("std", "reverse_std", "left", "right", "full"),
    "galore_adamw_8bit": ("std",),
    "galore_adafactor": ("std",),
    "apollo_adamw": ("std",),
    "apollo_adamw,proj=svd": ("std",),
    "galore_adamw_layerwise": ("std",),
    "apollo_adamw_layerwise": ("std",),
}
TARGETS = (["attn", "mlp"], "all-linear", [r"model\.layers\.\d+\.mlp\.(gate|down)_proj"])
SVD = torch.linalg.svd


def on_a_card(matrix: torch.Tensor, full_matrices: bool = True) -> Any:
    """Decompose a matrix beside the copy in order of columns that the kernel of a card overwrites (svd_cusolver of
    aten/src/ATen/native/cuda/linalg/BatchLinearAlgebraLib.cpp, 2.13), which that of a CPU makes unseen."""
    copy = matrix.mT.contiguous()
    found = SVD(matrix, full_matrices=full_matrices)
    del copy
    return found


def tensors_of(value: Any, name: str = "") -> Iterator[torch.Tensor]:
    """Yield what states hold, projectors' matrices among it, but code books."""
    if isinstance(value, torch.Tensor) and not name.startswith("qmap"):
        yield value
    elif hasattr(value, "ortho_matrix"):
        yield from tensors_of(value.ortho_matrix)
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from tensors_of(each, str(key))
    elif isinstance(value, list):
        for each in value:
            yield from tensors_of(each)


def kept(optimizer: torch.optim.Optimizer) -> int:
    """Return the bytes of every storage that the states hold, but those of single numbers."""
    states = tensors_of(list(optimizer.state.values()))
    storages = {each.untyped_storage().data_ptr(): each for each in states if each.numel() > 1}
    return sum(each.untyped_storage().nbytes() for each in storages.values())


def row(name: str, projection: str, rank: int, targets: Any, dtype: str) -> dict[str, Any]:
    optim, _, proj = name.partition(",")
    options = ", ".join(filter(None, (f"rank={rank}", f"proj_type={projection}", EVERY_STEP, proj)))
    args = TrainingArguments(
        output_dir="/tmp/low_rank", optim=optim, optim_args=options, optim_target_modules=targets,
        report_to="none", use_cpu=True,
    )  # fmt: skip
    sizes = {name: value for name, value in CONFIG.items() if name != "model_type"}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **sizes))
    model = model.to(getattr(torch, dtype))
    made, options_of_it = Trainer.get_optimizer_cls_and_kwargs(args, model)
    single = options_of_it.get("optimizer_dict")
    each = list(single.values()) if single else [made(options_of_it.pop("params"), **options_of_it)]

    def step(run: Callable[[torch.optim.Optimizer], None]) -> None:
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        with torch.no_grad():  # hooks are not run: every optimizer is stepped here
            for one in each:
                run(one)

    most = [0]

    def counted(one: torch.optim.Optimizer) -> None:
        with Allocations() as live:
            for each in (*model.parameters(), *(p.grad for p in model.parameters())):
                live.track(each)
            for each in tensors_of(list(one.state.values())):
                live.track(each)
            before = live.now
            live.mark("step")
            one.step()
        most[0] = max(most[0], live.peaks["step"] - before)

    step(lambda one: one.step())
    step(lambda one: one.step())
    states = sum(map(kept, each))
    step(counted)
    return {
        "optimizer": optim, "random": name.startswith("apollo") and not proj, "projection": projection, "rank": rank,
        "targets": targets, "dtype": dtype, "states": states, "step": most[0],
    }  # fmt: skip


if __name__ == "__main__":
    with patch.object(torch.linalg, "svd", on_a_card), patch.object(torch.cuda, "synchronize"):
        for name, projections in KINDS.items():
            for projection, dtype in itertools.product(projections, ("float32", "bfloat16")):
                # a rank above a side breaks all projections but the usual one
                cases = [(16, targets) for targets in TARGETS] + [(200, TARGETS[0])]
                for rank, targets in cases if projection == "std" else cases[:1]:
                    print(json.dumps(row(name, projection, rank, targets, dtype)))
