"""Take two steps of ms-swift's own training on answers on the CPU, through its command, and print rows for older_objectives.jsonl.

Run as older_steps.py, in an environment with ms-swift and its TRL:
    PYTHONPATH=ROOT python ROOT/tests/formulas/swift_steps.py FOLDER dpo,kto,orpo,simpo,reward
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import nullcontext
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import torch
import transformers
from accelerate.state import AcceleratorState
from allocations import Allocations
from objective_steps import answers, counts_of, leave_heads, mark_steps, tokenizer, trained
from older_steps import CASES, CONFIG, softmax_copies

NAMES = ("16 bits", "16 bits, autocast", "autocast", "LoRA", "checkpointed", "deep")
TYPES = {"reward": "rm"}
LENGTH = 256
IS_4 = not version("ms-swift").startswith("3.")
MODULE = "pipelines.train.rlhf" if IS_4 else "llm.train.rlhf"


def folder_of(case: dict, folder: Path) -> Path:
    """Write a random model with its tokenizer, and rows of which every answer is cut at the length."""
    config = transformers.AutoConfig.for_model(**case["config"], pad_token_id=0, eos_token_id=1)
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[case["load"]]
    transformers.AutoModelForCausalLM.from_config(config).to(dtype).save_pretrained(folder)
    tokenizer(case["config"]["vocab_size"]).save_pretrained(folder)
    rows = (
        {
            "messages": [
                {"role": "user", "content": "w1"},
                {"role": "assistant", "content": chosen},
            ],
            "rejected_response": rejected,
            "label": n % 2 == 0,
        }
        for n, (chosen, rejected) in enumerate(zip(answers(LENGTH), answers(LENGTH), strict=True))
    )
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def words_of(case: dict, objective: str, folder: Path) -> list[str]:
    """Return the arguments of `swift rlhf` for a case."""
    said = {
        "rlhf_type": TYPES.get(objective, objective),
        "model": folder,
        "model_type": "llama",
        "template": "dummy",
        "dataset": folder / "rows.jsonl",
        "output_dir": folder / "out",
        "tuner_type" if IS_4 else "train_type": "lora" if case.get("rank") else "full",
        "torch_dtype": {"bf16": "bfloat16", "fp32": "float32"}[case["load"]],
        "bf16": "true" if case.get("autocast") else "false",
        "fp16": "false",
        "max_length": LENGTH,
        "truncation_strategy": "right",
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "max_steps": 2,
        "gradient_checkpointing": "true" if case.get("checkpointing") else "false",
        "gradient_checkpointing_kwargs": '{"use_reentrant":false}',
        "attn_impl": "sdpa",
        "use_logits_to_keep": "false",
        "optim": "adamw_torch",
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": "true",
        "check_model": "false",
        "split_dataset_ratio": 0,
        "dataset_num_proc": 1,
        "dataloader_num_workers": 0,
        "load_from_cache_file": "false",
    }
    if case.get("rank"):
        said |= {"lora_rank": case["rank"], "target_modules": "q_proj v_proj", "lora_dropout": 0}
    return [word for name, value in said.items() for word in (f"--{name}", *str(value).split(" "))]


def counted(case: dict, objective: str, folder: Path) -> dict[str, object]:
    """Return the peaks of the second step, and the rows that the model saw."""
    os.environ.pop("ACCELERATE_MIXED_PRECISION", None)
    AcceleratorState._reset_state(True)
    SwiftRLHF = import_module(f"swift.{MODULE}").SwiftRLHF
    found: dict[str, object] = {}

    class Counted(SwiftRLHF):
        def train(self, trainer):
            allocations = Allocations()
            trainer.autocast_smart_context_manager = nullcontext  # is there on a CPU alone
            mark_steps(trainer, allocations)
            found.update(trained(trainer, allocations))
            return {}

    Counted(words_of(case, objective, folder_of(case, folder))).main()
    return found


def main() -> None:
    """Print a row for every case of every objective."""
    torch.set_num_threads(1)
    softmax_copies()
    leave_heads()
    for objective in sys.argv[2].split(","):
        for name in NAMES if len(sys.argv) < 4 else sys.argv[3].split(";"):
            case = {"config": CONFIG, **CASES[name]}
            folder = Path(sys.argv[1]) / objective / name.replace(" ", "_").replace(",", "")
            folder.mkdir(parents=True, exist_ok=True)
            found = counted(case, objective, folder)
            shapes, peaks = counts_of(found)
            row = {
                "trl": version("trl"),
                "transformers": transformers.__version__,
                "objective": objective,
                "name": name,
                "shape": shapes[-1],
                "peaks": peaks,
                "ms_swift": version("ms-swift"),
            }
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
