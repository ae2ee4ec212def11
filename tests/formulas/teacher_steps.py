"""Run TRL's GKD on the CPU with a teacher of another shape, and print a row of what was alive for each case, for teachers.jsonl.

Run in an environment with that TRL:
    PYTHONPATH=ROOT:ROOT/tests/formulas python ROOT/tests/formulas/teacher_steps.py FOLDER >> teachers.jsonl
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import torch
import transformers
import trl
from accelerate.state import AcceleratorState
from allocations import Allocations
from datasets import Dataset
from objective_steps import leave_heads, lora_of, mark_steps, tokenizer, trained
from small_llama import LLAMA
from transformers import AutoConfig, AutoModelForCausalLM

CASES: dict[str, dict] = {
    "fp32": {},
    "fp32, checkpointed": {"checkpointing": True},
    "fp32, LoRA": {"rank": 8},
    "fp32, more words": {"words": 16384},
    "fp32, beta 1": {"beta": 1.0},
    "autocast": {"autocast": True},
    "autocast, LoRA": {"autocast": True, "rank": 8},
    "autocast, gradients wait": {"autocast": True, "accumulation": 2},
    "autocast, beta 0": {"autocast": True, "beta": 0.0},
    "autocast, on policy": {"autocast": True, "lmbda": 1.0, "prompt": 48, "completion": 40},
    "few words, on policy": {"words": 1024, "lmbda": 1.0, "prompt": 200, "completion": 60},
    "few words, the teacher generates": {"words": 1024, "seq_kd": True, "prompt": 200, "completion": 60},
    "16 bits": {"load": "bf16"},
    "16 bits, LoRA": {"load": "bf16", "rank": 8},
}  # fmt: skip
ROWS = 8


def case_of(name: str) -> dict:
    """Return everything of a case that its name does not say."""
    common = {
        "load": "fp32",
        "micro": 2,
        "prompt": 32,
        "completion": 96,
        "words": 8192,
        "beta": 0.5,
        "lmbda": 0.0,
    }
    return {**common, **CASES[name]}  # fmt: skip


def configs_of(case: dict) -> list[dict]:
    """Return the shapes of the student, and of a teacher twice as wide and as deep."""
    student = {**LLAMA, "vocab_size": case["words"]}
    width, depth = 2 * LLAMA["hidden_size"], 2 * LLAMA["num_hidden_layers"]
    return [student, {**student, "hidden_size": width, "num_hidden_layers": depth}]


def words_of(length: int) -> str:
    return " ".join(f"w{random.randrange(500)}" for _ in range(length))


def models_of(case: dict) -> list:
    """Return student and teacher, whose completions end at their limit alone."""
    dtype, models = {"bf16": torch.bfloat16, "fp32": torch.float32}[case["load"]], []
    for shape in configs_of(case):
        config = AutoConfig.for_model(**shape, pad_token_id=0, eos_token_id=1)
        models.append(AutoModelForCausalLM.from_config(config).to(dtype))
        models[-1].generation_config.eos_token_id = None
    return models


def trainer_of(case: dict, folder: Path):
    """Return the trainer of a case."""
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    words = tokenizer(case["words"])
    words.padding_side, words.model_input_names = "left", ["input_ids", "attention_mask"]
    words.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    rows = [
        [{"role": "user", "content": words_of(case["prompt"])}, {"role": "assistant", "content": words_of(case["completion"])}]
        for _ in range(ROWS)
    ]  # fmt: skip
    args = GKDConfig(
        output_dir=str(folder), per_device_train_batch_size=case["micro"], max_steps=2, use_cpu=True, report_to=[],
        save_strategy="no", optim="adamw_torch_fused", bf16=case.get("autocast", False), disable_tqdm=True,
        gradient_checkpointing=case.get("checkpointing", False), gradient_checkpointing_kwargs={"use_reentrant": False},
        dataloader_pin_memory=False, max_length=case["prompt"] + case["completion"], beta=case["beta"],
        max_new_tokens=case["completion"], lmbda=case["lmbda"], seq_kd=case.get("seq_kd", False),
        gradient_accumulation_steps=case.get("accumulation", 1),
    )  # fmt: skip
    student, teacher = models_of(case)
    given = {"peft_config": lora_of(case)} if case.get("rank") else {}
    data = Dataset.from_dict({"messages": rows})
    trainer = GKDTrainer(
        student, teacher, args=args, train_dataset=data, processing_class=words, **given
    )
    trainer.generation_config.eos_token_id = None
    return trainer


def counted(case: dict, folder: Path) -> dict[str, int]:
    """Return the peaks of the second step, the teacher's parameters among them."""
    random.seed(0)
    torch.manual_seed(0)
    AcceleratorState._reset_state(True)
    trainer, allocations = trainer_of(case, folder), Allocations()
    mark_steps(trainer, allocations)
    leave_heads()
    peaks = trained(trainer, allocations, [trainer.teacher_model])["peaks"]
    assert isinstance(peaks, dict)
    return {part: peak for part, peak in peaks.items() if part != "start"}


def main() -> None:
    """Print a row for each case."""
    torch.set_num_threads(1)
    for name in CASES:
        row = {"name": name, "trl": trl.__version__, "transformers": transformers.__version__}
        peaks = counted(case_of(name), Path(sys.argv[1]) / name)
        print(json.dumps({**row, "peaks": peaks}), flush=True)


if __name__ == "__main__":
    main()
