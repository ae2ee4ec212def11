"""Take two steps of an older TRL's own trainers on the CPU and print a row of what was alive, for older_objectives.jsonl.

Run in an environment with that TRL, and the transformers, accelerate, peft and datasets of its day:
    PYTHONPATH=ROOT python ROOT/tests/formulas/older_steps.py FOLDER [OBJECTIVE] >> ROOT/tests/formulas/older_objectives.jsonl
"""

from __future__ import annotations

import inspect
import json
import os
import random
import sys
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path

import torch
import transformers
import trl
from allocations import Allocations
from objective_steps import (
    counts_of,
    data_of,
    leave_heads,
    lora_of,
    mark_steps,
    tokenizer,
    trained,
    use_kernel,
)
from small_llama import LLAMA
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    TrainingArguments,
)

CONFIG = {**LLAMA, "vocab_size": 8192}
DEEP = {**CONFIG, "num_hidden_layers": 12, "vocab_size": 1024}
CASES: dict[str, dict] = {
    "16 bits": {"load": "bf16"},
    "autocast": {"load": "fp32", "autocast": True},
    "16 bits, autocast": {"load": "bf16", "autocast": True},
    "one pair": {"load": "fp32", "autocast": True, "micro": 1, "length": 512},
    "LoRA": {"load": "bf16", "rank": 8},
    "checkpointed": {"load": "bf16", "checkpointing": True},
    "deep": {"load": "bf16", "config": DEEP},
    "deep, checkpointed": {"load": "bf16", "checkpointing": True, "config": DEEP},
    "computed before": {"load": "bf16", "computed": True},
    "no padding": {"load": "bf16", "free": True},
    "no padding, autocast": {"load": "fp32", "autocast": True, "free": True},
    "few tokens": {"load": "bf16", "length": 32},
    "few tokens, autocast": {"load": "fp32", "autocast": True, "length": 32},
}
NAMES = {
    "dpo": "DPO", "ipo": "DPO", "kto": "KTO", "orpo": "ORPO", "cpo": "CPO", "simpo": "CPO", "reward": "Reward",
}  # fmt: skip
COMPARED = ("dpo", "ipo", "kto")
VERSION = tuple(int(number) for number in trl.__version__.split(".")[:2])
PROMPT = 2
"""Tokens that prompts are cut at: the answers fill the length."""


def classes_of(objective: str) -> tuple[type, type]:
    """Return the trainer and its arguments, where the release has them."""
    name, module = NAMES[objective], trl
    if not hasattr(trl, f"{name}Trainer") or (objective not in COMPARED and VERSION >= (0, 26)):
        module = import_module(f"trl.experimental.{name.lower()}")
    return getattr(module, f"{name}Trainer"), getattr(module, f"{name}Config", TrainingArguments)


def trainer_of(case: dict, folder: Path):
    """Return the trainer of a case, as a script of its day would make it."""
    objective, words = case["objective"], tokenizer(case["config"]["vocab_size"])
    words.bos_token = "<eos>"
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[case["load"]]
    config = AutoConfig.for_model(**case["config"], pad_token_id=0, eos_token_id=1, bos_token_id=1)
    torch.manual_seed(0)
    config.num_labels = 1
    is_scored = objective == "reward"
    kind = AutoModelForSequenceClassification if is_scored else AutoModelForCausalLM
    kind.from_config(config).to(dtype).save_pretrained(folder)
    words.save_pretrained(folder)

    def loaded():
        return kind.from_pretrained(folder, torch_dtype=dtype)

    trainer, arguments = classes_of(objective)
    given = {
        "output_dir": str(folder / "out"), "per_device_train_batch_size": case["micro"], "max_steps": 2,
        "use_cpu": True, "report_to": [], "save_strategy": "no", "optim": "adamw_torch",
        "bf16": case.get("autocast", False), "gradient_checkpointing": case.get("checkpointing", False),
        "gradient_checkpointing_kwargs": {"use_reentrant": False}, "dataloader_pin_memory": False,
        "disable_tqdm": True, "remove_unused_columns": False,
    }  # fmt: skip
    lengths = {"max_length": case["length"], "max_prompt_length": PROMPT}
    own = {} if not case.get("computed") else {"precompute_ref_log_probs": True}
    own |= {"padding_free": True} if case.get("free") else {}
    if objective in ("ipo", "simpo"):
        own |= {"loss_type": objective} | ({"cpo_alpha": 0.0} if objective == "simpo" else {})
    common = {"train_dataset": data_of(objective, case["length"])}
    if case.get("rank"):
        common["peft_config"] = lora_of(case, "SEQ_CLS" if is_scored else "CAUSAL_LM")
    elif objective in COMPARED and not case.get("computed"):
        common["ref_model"] = loaded()
    takes = inspect.signature(trainer.__init__).parameters
    common["processing_class" if "processing_class" in takes else "tokenizer"] = words
    if arguments is TrainingArguments:  # before 0.9 the trainer itself took what is its own
        return trainer(loaded(), args=arguments(**given), **lengths, **own, **common)
    known = inspect.signature(arguments).parameters
    given = {**given, **lengths, **own}
    if VERSION >= (0, 29):
        del given["max_prompt_length"]
    args = arguments(**{name: value for name, value in given.items() if name in known})
    return trainer(model=loaded(), args=args, **common)


def counted(case: dict, folder: Path) -> dict[str, object]:
    """Return the peaks of the second step, and the rows that the model saw."""
    from accelerate.state import AcceleratorState

    random.seed(0)
    os.environ.pop("ACCELERATE_MIXED_PRECISION", None)  # arguments of the case before said it
    AcceleratorState._reset_state(True)
    if VERSION == (1, 14):
        use_kernel(True)
    if case.get("free"):  # flash attention takes no mask of which rows are apart
        transformers.masking_utils.find_packed_sequence_indices = lambda position_ids: None
    trainer, allocations = trainer_of(case, folder), Allocations()
    trainer.autocast_smart_context_manager = (
        nullcontext  # is there on a CPU alone, around the whole loss
    )
    mark_steps(trainer, allocations)
    return trained(trainer, allocations)


def softmax_copies() -> None:
    """Let the copy be seen that softmax's kernel makes of logits that are cut (aten/native/cuda/SoftMax.cu host_softmax)."""
    softmax = torch.Tensor.log_softmax
    torch.Tensor.log_softmax = lambda self, *args, **kwargs: softmax(
        self.contiguous(), *args, **kwargs
    )


def main() -> None:
    """Print a row for every case."""
    folder, objective = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "dpo"
    names = sys.argv[3].split(";") if len(sys.argv) > 3 else list(CASES)
    torch.set_num_threads(1)
    softmax_copies()
    leave_heads()
    for number, name in enumerate(names):
        case = {
            "objective": objective,
            "micro": 2,
            "length": 256,
            "config": CONFIG,
            **CASES[name],
        }
        found = counted(case, folder / str(number))
        shapes, peaks = counts_of(found)
        row = {
            "trl": trl.__version__,
            "transformers": transformers.__version__,
            "objective": objective,
            "name": name,
            "shape": shapes[-1],
            "peaks": peaks,
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
