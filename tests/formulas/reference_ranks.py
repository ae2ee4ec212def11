"""Prepare a reference model on real gloo ranks with TRL's own functions, and count what it holds and what a forward takes, as JSON.

Usage (on ranks): reference_ranks.py CASES_JSON CHECKPOINT_FOLDER
"""

from __future__ import annotations

import gc
import json
import sys

from real_phases import (  # isort: skip
    Counted,
    accelerator_of,
    load,
    make_copies_visible,
    print_every_rank,
    restart,
)

import torch
import torch.distributed as dist
from accelerate import Accelerator
from real_ranks import local, num_bytes, set_libraries_aside, settle
from transformers import AutoConfig, AutoModelForCausalLM
from trl.models.utils import prepare_deepspeed, prepare_fsdp


def run(case: dict, folder: str) -> dict:
    """Return what a rank holds of the reference, and the peak of a forward above it."""
    accelerator = accelerator_of(case)
    is_zero = case["engine"].startswith("zero")
    torch.manual_seed(0)
    allocations = Counted()
    with allocations:
        model = load(case, accelerator, folder)
        gc.collect()
        if not is_zero:
            allocations = restart(allocations)
        prepared = (prepare_deepspeed if is_zero else prepare_fsdp)(model, accelerator)
        gc.collect()
        for tensor in (*model.parameters(), *model.buffers()):
            allocations.track(local(tensor))
        settle(allocations)
        shards = num_bytes(getattr(p, "ds_tensor", p) for p in model.parameters())
        result = {"held": allocations.now, "shards": shards}
        for _ in range(2):
            settle(allocations)
            before = allocations.now
            allocations.mark("forward")
            ids = torch.randint(0, case["config"]["vocab_size"], (case["micro"], case["length"]))
            with torch.no_grad():
                prepared(input_ids=ids)
            gc.collect()
            settle(allocations)
            result["forward"] = allocations.peaks["forward"] - before
            result["kept"] = max(result.get("kept", 0), allocations.now - before)
    return result


def main() -> None:
    cases, folder = json.loads(sys.argv[1]), sys.argv[2]
    make_copies_visible()
    set_libraries_aside()
    Accelerator(mixed_precision="bf16")
    if dist.get_rank() == 0:
        torch.manual_seed(0)
        config = AutoConfig.for_model(**cases[0]["config"])
        AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    dist.barrier()
    print_every_rank(cases, folder, run)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
