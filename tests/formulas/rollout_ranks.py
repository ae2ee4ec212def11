"""Run TRL's GRPO trainer on real gloo ranks, the policy sharded, and count what a rollout and its scoring take, as JSON.

Usage (on ranks): rollout_ranks.py CASES_JSON CHECKPOINT_FOLDER
"""

from __future__ import annotations

import gc
import json
import os
import sys
from contextlib import suppress
from pathlib import Path

from real_phases import Counted, allow_fp16, make_copies_visible, print_every_rank  # isort: skip

import deepspeed
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from real_ranks import set_libraries_aside, settle
from rollout_steps import prompts, saved, tokenizer
from trl import GRPOConfig, GRPOTrainer


class ScoredOnce(Exception):
    """Ends a training where its first update would begin."""


def start_over(case: dict) -> None:
    """Forget the engine of the case before, and say this one's as `accelerate launch` would."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    for name in [n for n in os.environ if n.startswith(("ACCELERATE_", "FSDP_"))]:
        if name != "ACCELERATE_BYPASS_DEVICE_MAP":
            del os.environ[name]
    if case["engine"] == "fsdp2":
        os.environ.update(
            ACCELERATE_USE_FSDP="true", FSDP_VERSION="2", FSDP_RESHARD_AFTER_FORWARD="true",
            FSDP_AUTO_WRAP_POLICY="TRANSFORMER_BASED_WRAP",
            FSDP_TRANSFORMER_CLS_TO_WRAP="LlamaDecoderLayer", ACCELERATE_MIXED_PRECISION="bf16",
        )  # fmt: skip


def trainer_of(case: dict, folder: str, out: str) -> GRPOTrainer:
    more = {}
    if case["engine"].startswith("zero"):
        allow_fp16()
        auto = (
            "train_batch_size",
            "train_micro_batch_size_per_gpu",
            "gradient_accumulation_steps",
        )
        more["deepspeed"] = {
            "bf16": {"enabled": True}, "zero_force_ds_cpu_optimizer": False, **dict.fromkeys(auto, "auto"),
            "zero_optimization": {"stage": int(case["engine"][-1]), **case["zero"]},
        }  # fmt: skip
    words = tokenizer(case["config"]["vocab_size"])
    words.padding_side = "left"
    arguments = GRPOConfig(
        output_dir=out, per_device_train_batch_size=case["micro"], max_steps=2, use_cpu=True, report_to=[],
        save_strategy="no", optim="adamw_torch", bf16=True, gradient_checkpointing=False, disable_tqdm=True,
        dataloader_pin_memory=False, num_generations=2, max_completion_length=case["completion"],
        beta=case.get("beta", 0.0), model_init_kwargs={"dtype": case["load"]}, max_grad_norm=0.0,
        ds3_gather_for_generation=case.get("gathers", True), **more,
    )  # fmt: skip
    return GRPOTrainer(
        model=folder,
        reward_funcs=lambda completions, **_: [float(len(c)) for c in completions],
        args=arguments,
        train_dataset=prompts(case["prompt"]),
        processing_class=words,
    )


def run(case: dict, folder: str) -> dict:
    """Return what a rank has alive before a rollout of the first step, and the peaks above it."""
    start_over(case)
    allocations = Counted()
    found: dict[str, int] = {}
    with allocations:
        trainer = trainer_of(case, folder, f"{folder}/out")
        generate = trainer._generate_single_turn

        def marked_generate(*args, **kwargs):
            settle(allocations)
            found["before"] = allocations.now
            allocations.mark("rollout")
            result = generate(*args, **kwargs)
            found["rollout"] = allocations.peaks["rollout"] - found["before"]
            settle(allocations)
            found["after"] = allocations.now - found["before"]
            allocations.mark("scoring")
            return result

        def marked_compute(*args, **kwargs):
            found["scoring"] = allocations.peaks["scoring"] - found["before"]
            raise ScoredOnce

        trainer._generate_single_turn, trainer._compute_loss = marked_generate, marked_compute
        with suppress(ScoredOnce):
            trainer.train()
        gc.collect()
    return found


def main() -> None:
    cases, folder = json.loads(sys.argv[1]), sys.argv[2]
    make_copies_visible()
    set_libraries_aside()
    Accelerator(mixed_precision="bf16")
    deepspeed.init_distributed("gloo", auto_mpi_discovery=False)
    if dist.get_rank() == 0:
        saved({**cases[0], "objective": "grpo"}, Path(folder))
    dist.barrier()
    print_every_rank(cases, folder, run)


if __name__ == "__main__":
    main()
