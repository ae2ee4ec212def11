"""Run TRL's trainers on real gloo ranks under every engine, and print a row of what a rank had alive, for engine_steps.jsonl.

The model is random and tiny and is loaded in fp32 to train in bf16, as TRL's commands do. A row is the least of the ranks'
largest sums in the last steps: a thread of gloo's that lets go late makes one higher.
`single` is the same training on one rank, with no engine. A row of it again, each case in ranks of its own:
    PYTHONPATH=. python tests/formulas/engine_steps.py [KIND;KIND] [ENGINE] >> tests/formulas/engine_steps.jsonl
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
from pathlib import Path

from small_llama import LLAMA, ZERO

CONFIG = {**LLAMA, "vocab_size": 4096}
ENGINES = ("single", "ddp", "zero2", "zero3", "fsdp1", "fsdp2")
LORA = {"rank": 8}
DEEP = {
    "engines": ("zero3",), "config": {**CONFIG, "num_hidden_layers": 12},
    "zero": {
        "stage3_max_live_parameters": 5_000_000, "stage3_max_reuse_distance": 2_000_000,
        "stage3_prefetch_bucket_size": 300_000,
    },
}  # fmt: skip
"""A model of which ZeRO-3 has no more than half whole."""
SHORT = {"engines": ("zero3",), "length": 32}
"""Rows so short that what ZeRO-3 fetches ahead is the most of a step."""
KINDS: dict[str, dict] = {
    "sft": {"objective": "sft"},
    "sft, LoRA": {"objective": "sft", **LORA},
    "dpo": {"objective": "dpo"},
    "dpo, LoRA": {"objective": "dpo", **LORA},
    "kto": {"objective": "kto"},
    "kto, LoRA": {"objective": "kto", **LORA},
    "reward": {"objective": "reward"},
    "reward, LoRA": {"objective": "reward", **LORA},
    "grpo": {"objective": "grpo", "prompt": 116, "completion": 12},
    "grpo, LoRA": {"objective": "grpo", "prompt": 116, "completion": 12, "beta": 0.1, **LORA},
    "rloo": {"objective": "rloo", "prompt": 116, "completion": 12, "beta": 0.05},
    "rloo, LoRA": {
        "objective": "rloo", "prompt": 116, "completion": 12, "beta": 0.05, "engines": ("zero3",), **LORA,
    },
    "rloo, short": {"objective": "rloo", "prompt": 20, "completion": 12, "beta": 0.05, **SHORT},
    "dpo, LoRA, short": {"objective": "dpo", **LORA, **SHORT},
    "kto, LoRA, short": {"objective": "kto", **LORA, **SHORT},
    "grpo, LoRA, short": {"objective": "grpo", "prompt": 20, "completion": 12, "beta": 0.1, **LORA, **SHORT},
    "sft, deep": {"objective": "sft", **DEEP},
    "sft, LoRA, deep": {"objective": "sft", **LORA, **DEEP},
    "dpo, deep": {"objective": "dpo", **DEEP},
    "kto, deep": {"objective": "kto", **DEEP},
}  # fmt: skip
"""Kind of training -> its case; every row fills its length."""
ONLINE = ("grpo", "rloo")
NOT_RUN = {("grpo, LoRA", "fsdp1"): "its rollout multiplies fp32 by bf16, and every worker stops"}
COMMON = {"micro": 2, "length": 128, "config": CONFIG, "load": "fp32", "autocast": True}
STEPS = 4
LAST = 2
"""Of them are counted."""
FSDP = {
    "ACCELERATE_USE_FSDP": "true", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_TRANSFORMER_CLS_TO_WRAP": "LlamaDecoderLayer", "FSDP_USE_ORIG_PARAMS": "true",
    "ACCELERATE_MIXED_PRECISION": "bf16",
}  # fmt: skip
OF_ENGINE = {
    "fsdp1": {**FSDP, "FSDP_VERSION": "1", "FSDP_SHARDING_STRATEGY": "FULL_SHARD"},
    "fsdp2": {**FSDP, "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "true"},
}
"""Engine -> what `accelerate launch` exports for it."""


def case_of(name: str) -> dict:
    """Return a case with what all of them share; GRPO is given more rows than pairs."""
    return {**COMMON, **KINDS[name]}


def arguments_of(case: dict, engine: str) -> dict:
    """Return the arguments of a trainer that count steps and say the engine."""
    more = {**case.get("arguments", {}), "max_steps": STEPS, "use_cpu": engine == "single"}
    if engine.startswith("zero"):
        auto = "train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps"
        more["deepspeed"] = {
            "bf16": {"enabled": True}, "zero_force_ds_cpu_optimizer": False, **dict.fromkeys(auto, "auto"),
            "gradient_clipping": "auto", "zero_optimization": {"stage": int(engine[-1]), **ZERO, **case.get("zero", {})},
        }  # fmt: skip
    return more


def trained_on_rank(case: dict, engine: str, folder: Path) -> dict[str, int]:
    """Return the largest sum of each of the last steps, and what is held between them."""
    import objective_steps
    import rollout_steps
    import torch
    from real_phases import Counted
    from real_ranks import local, settle

    from preflight.trace import fused_head

    random.seed(0)
    is_online = case["objective"] in ONLINE
    steps = rollout_steps if is_online else objective_steps
    if dist_rank() == 0:
        steps.saved(case, folder)
    if engine != "single":
        torch.distributed.barrier()
    case = {**case, "arguments": arguments_of(case, engine)}
    objective_steps.use_kernel(True)
    allocations, peaks = Counted(), []
    cast = lambda: torch.bfloat16 if torch.is_autocast_enabled("cpu") else None  # noqa: E731
    real = objective_steps.replaced(
        fused_head, "_every_position_counts", objective_steps.nullcontext
    )
    with allocations:
        trainer = steps.trainer_of(case, folder)
        step = trainer.training_step

        def marked_step(model, *args, **kwargs):
            settle(allocations)
            if not peaks:
                for held in (model, getattr(trainer, "ref_model", None)):
                    for tensor in (*held.parameters(), *held.buffers()) if held is not None else ():
                        allocations.track(local(tensor))
            peaks.append(allocations.peaks.get("step", 0))
            allocations.mark("step")
            return step(model, *args, **kwargs)

        trainer.training_step = marked_step
        with real, fused_head.head_like_cuda(cast):
            trainer.train()
    peaks.append(allocations.peaks["step"])
    return {"step": min(peaks[-LAST:])}


def dist_rank() -> int:
    """Return the rank of this process; 0 where it is alone."""
    return int(os.environ.get("RANK", "0"))


def on_rank() -> None:
    """Count a case on this rank, and print on the first what it is of all."""
    case, engine, folder = json.loads(sys.argv[2]), sys.argv[3], Path(sys.argv[4], "model")
    os.environ.update(OF_ENGINE.get(engine, {}))
    from real_phases import allow_fp16, make_copies_visible  # isort: skip
    import cpu_ranks
    import deepspeed
    import torch.distributed as dist
    import transformers.training_args
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    make_copies_visible()
    allow_fp16()
    if engine != "single":
        cpu_ranks.patch_bf16_check(transformers.training_args)
        Accelerator(mixed_precision="bf16")
        deepspeed.init_distributed("gloo", auto_mpi_discovery=False)
        AcceleratorState._reset_state(reset_partial_state=True)
    mine = trained_on_rank(case, engine, folder)
    every = [mine]
    if dist.is_initialized():
        every = [None] * dist.get_world_size()
        dist.all_gather_object(every, mine)
    if dist_rank() == 0:
        print(json.dumps({name: min(each[name] for each in every) for name in mine}), flush=True)
    if dist.is_initialized():
        dist.barrier()


def main() -> None:
    """Print a row of every kind under every engine, or of those that are named."""
    import transformers
    import trl
    from ranks import ForkHost

    host = ForkHost()
    names = sys.argv[1].split(";") if len(sys.argv) > 1 else [*KINDS]
    for name in names:
        engines = KINDS[name].get("engines", ENGINES)
        for engine in sys.argv[2:3] or [e for e in engines if (name, e) not in NOT_RUN]:
            with tempfile.TemporaryDirectory() as folder:
                given = ("rank", json.dumps(case_of(name)), engine, folder)
                world = 0 if engine == "single" else 2
                printed = host.printed(Path(__file__), *given, world=world)
            row = {
                "trl": trl.__version__, "transformers": transformers.__version__, "name": name, "engine": engine,
                "peaks": json.loads(printed.splitlines()[-1]),
            }  # fmt: skip
            print(json.dumps(row), flush=True)
    host.stop()


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    sys.path[:0] = map(str, (here, here.parent, here.parent / "launches" / "worker"))
    on_rank() if sys.argv[1:2] == ["rank"] else main()
