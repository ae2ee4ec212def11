"""Run TRL's trainers of generated pairs, BCO and process rewards on the CPU, and print a row of what was alive for each.

Run in an environment with that TRL:
    PYTHONPATH=ROOT:ROOT/tests/formulas python ROOT/tests/formulas/experiment_steps.py FOLDER OBJECTIVE >> experiments.jsonl
"""

from __future__ import annotations

import json
import random
import sys
from importlib import import_module
from pathlib import Path

import torch
import transformers
import trl
from accelerate.state import AcceleratorState
from allocations import Allocations
from datasets import Dataset
from objective_steps import leave_heads, lora_of, mark_steps, tokenizer, trained
from small_llama import LLAMA
from torch.nn import Module
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

CONFIG = {**LLAMA, "vocab_size": 8192}
SHORT = {"prompt": 96, "completion": 32}
CASES: dict[str, dict] = {
    "16 bits": {},
    "16 bits, short completions": SHORT,
    "16 bits, checkpointed": {"checkpointing": True},
    "16 bits, one row": {"micro": 1},
    "16 bits, LoRA": {"rank": 8},
    "autocast": {"load": "fp32", "autocast": True},
    "autocast, short completions": {"load": "fp32", "autocast": True, **SHORT},
}
NAMES = {"online_dpo": "OnlineDPO", "bco": "BCO", "nash_md": "NashMD", "xpo": "XPO", "prm": "PRM"}
MIXED = ("nash_md", "xpo")
"""What a model of rewards scores."""
ROWS = 8


def case_of(name: str) -> dict:
    """Return everything of a case that its name does not say."""
    common = {"load": "bf16", "micro": 2, "prompt": 32, "completion": 96}
    return {**common, **CASES[name]}


def words_of(length: int) -> list[str]:
    return [" ".join(f"w{random.randrange(500)}" for _ in range(length)) for _ in range(ROWS)]


def trainer_of(objective: str, case: dict, folder: Path):
    """Return the trainer of a case, with completions that end at their limit."""
    module = import_module(f"trl.experimental.{objective}")
    name = NAMES[objective]
    words = tokenizer(CONFIG["vocab_size"])
    words.padding_side, words.model_input_names = "left", ["input_ids", "attention_mask"]
    words.bos_token = "<eos>"
    config = AutoConfig.for_model(**CONFIG, pad_token_id=0, eos_token_id=1, bos_token_id=1)
    torch.manual_seed(0)
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[case["load"]]
    kind = AutoModelForTokenClassification if objective == "prm" else AutoModelForCausalLM
    models = [kind.from_config(config).to(dtype) for _ in range(2)]
    for model in models:
        if objective != "prm":
            model.generation_config.eos_token_id = None
    arguments = {
        "output_dir": str(folder), "per_device_train_batch_size": case["micro"], "max_steps": 2, "use_cpu": True,
        "report_to": [], "save_strategy": "no", "optim": "adamw_torch_fused", "bf16": case.get("autocast", False),
        "gradient_checkpointing": case.get("checkpointing", False), "dataloader_pin_memory": False,
        "gradient_checkpointing_kwargs": {"use_reentrant": False}, "disable_tqdm": True,
        "max_length": case["prompt"] + case["completion"],
    }  # fmt: skip
    rows: dict[str, list] = {"prompt": words_of(case["prompt"])}
    given: dict = {"processing_class": words}
    if objective == "bco":
        rows |= {
            "completion": words_of(case["completion"] + 8),
            "label": [True, False] * (ROWS // 2),
        }
        arguments["max_prompt_length"] = case["prompt"]
    elif objective == "prm":  # two steps fill the rest of a row
        steps = words_of(case["completion"])
        rows |= {"completions": [[each] for each in steps], "labels": [[True]] * ROWS}
    else:
        arguments["max_new_tokens"] = case["completion"]
        given["reward_funcs"] = lambda completions, **_: [float(len(each)) for each in completions]
    if objective in MIXED:
        words.save_pretrained(folder)
        scored = AutoConfig.for_model(**CONFIG, pad_token_id=0, num_labels=1)
        scorer = AutoModelForSequenceClassification.from_config(scored).to(dtype)
        scorer.config._name_or_path = str(folder)  # whose tokenizer is taken
        given["reward_funcs"] = scorer
    if case.get("rank"):
        given["peft_config"] = lora_of(case, "TOKEN_CLS" if objective == "prm" else "CAUSAL_LM")
    elif objective != "prm":
        given["ref_model"] = models[1]
    known = getattr(module, f"{name}Config")
    args = known(
        **{key: value for key, value in arguments.items() if key in known.__dataclass_fields__}
    )
    trainer = getattr(module, f"{name}Trainer")(
        model=models[0], args=args, train_dataset=Dataset.from_dict(rows), **given
    )
    if objective not in ("bco", "prm"):
        trainer.generation_config.eos_token_id = None
    return trainer


def counted(objective: str, case: dict, folder: Path) -> dict[str, int]:
    """Return the peaks of the second step."""
    random.seed(0)
    AcceleratorState._reset_state(True)
    trainer, allocations = trainer_of(objective, case, folder), Allocations()
    mark_steps(trainer, allocations)
    leave_heads()
    scorer = getattr(trainer, "reward_funcs", None)
    beside = [scorer] if isinstance(scorer, Module) else []
    peaks = trained(trainer, allocations, beside)["peaks"]
    assert isinstance(peaks, dict)
    return {part: peak for part, peak in peaks.items() if part != "start"}


def main() -> None:
    """Print a row for each case of an objective."""
    folder, objective = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    for name in CASES:
        row = {
            "objective": objective,
            "name": name,
            "trl": trl.__version__,
            "transformers": transformers.__version__,
        }
        print(
            json.dumps({**row, "peaks": counted(objective, case_of(name), folder / name)}),
            flush=True,
        )


if __name__ == "__main__":
    main()
