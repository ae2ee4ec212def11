"""Take two steps of LLaMA-Factory's own trainers of answers on the CPU and print rows for older_objectives.jsonl.

Run as older_steps.py, in an environment with llamafactory and its TRL:
    PYTHONPATH=ROOT python ROOT/tests/formulas/llamafactory_steps.py FOLDER sigmoid,simpo,orpo,kto,reward
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path

import torch
import transformers
from accelerate.state import AcceleratorState
from allocations import Allocations
from objective_steps import ROWS, counts_of, leave_heads, lora_of, mark_steps, tokenizer, trained
from older_steps import CASES, CONFIG, softmax_copies

NAMES = ("16 bits", "autocast", "LoRA", "checkpointed", "deep")
OBJECTIVES = {"sigmoid": "dpo"}
COMPARED = ("sigmoid", "kto")
LENGTH = 256


def model_of(case: dict, dtype: torch.dtype):
    config = transformers.AutoConfig.for_model(**case["config"], pad_token_id=0, eos_token_id=1)
    config._attn_implementation = "sdpa"
    return transformers.AutoModelForCausalLM.from_config(config).to(dtype)


def rows_of(loss: str, vocab: int):
    """Return what makes a batch of a stage: chosen and rejected rows, or rows and others that they do not belong to."""

    def collate(rows):
        ids = torch.randint(3, vocab, (len(rows) * (1 if loss == "kto" else 2), LENGTH))
        labels = ids.clone()
        labels[:, 0] = -100
        found = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
        if loss == "reward":
            del found["labels"]
        if loss == "kto":
            found |= {f"kl_{name}": values.clone() for name, values in found.items()}
            found["kto_tags"] = torch.arange(len(rows)) % 2 == 0
        return found

    return collate


def trainer_of(case: dict, loss: str, folder: Path):
    """Return LLaMA-Factory's trainer; what is compared with is in the dtype that its loader gives what does not train."""
    from llamafactory.hparams import FinetuningArguments
    from llamafactory.train.dpo.trainer import CustomDPOTrainer
    from llamafactory.train.kto.trainer import CustomKTOTrainer
    from llamafactory.train.rm.trainer import PairwiseTrainer

    vocab = case["config"]["vocab_size"]
    model = model_of(case, {"bf16": torch.bfloat16, "fp32": torch.float32}[case["load"]])
    own: dict[str, object] = {}
    if case.get("rank"):
        from peft import get_peft_model

        model = get_peft_model(model, lora_of(case))
    elif loss in COMPARED:
        own["ref_model"] = model_of(case, torch.bfloat16)
    if loss == "reward":
        from trl import AutoModelForCausalLMWithValueHead

        model = AutoModelForCausalLMWithValueHead.from_pretrained(model)
    else:
        own.setdefault("ref_model", None)
    arguments = transformers.Seq2SeqTrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=2, max_steps=2, use_cpu=True, report_to=[],
        save_strategy="no", optim="adamw_torch", bf16=case.get("autocast", False),
        gradient_checkpointing=case.get("checkpointing", False),
        gradient_checkpointing_kwargs={"use_reentrant": False}, dataloader_pin_memory=False,
        disable_tqdm=True, remove_unused_columns=False,
    )  # fmt: skip
    stage = {"kto": "kto", "reward": "rm"}.get(loss, "dpo")
    named = {"pref_loss": loss} if stage == "dpo" else {}
    kind = "lora" if case.get("rank") else "full"
    trainers = {"dpo": CustomDPOTrainer, "kto": CustomKTOTrainer, "rm": PairwiseTrainer}
    return trainers[stage](
        model=model,
        finetuning_args=FinetuningArguments(stage=stage, finetuning_type=kind, **named),
        processor=None,
        args=arguments,
        data_collator=rows_of(loss, vocab),
        train_dataset=list(range(ROWS)),
        tokenizer=tokenizer(vocab),
        **own,
    )


def counted(case: dict, loss: str, folder: Path) -> dict[str, object]:
    """Return the peaks of the second step, and the rows that the model saw."""
    os.environ.pop("ACCELERATE_MIXED_PRECISION", None)
    AcceleratorState._reset_state(True)
    trainer, allocations = trainer_of(case, loss, folder), Allocations()
    trainer.autocast_smart_context_manager = nullcontext  # is there on a CPU alone
    mark_steps(trainer, allocations)
    return trained(trainer, allocations)


def main() -> None:
    """Print a row for every case of every loss."""
    torch.set_num_threads(1)
    softmax_copies()
    leave_heads()
    for loss in sys.argv[2].split(","):
        for name in NAMES:
            case = {"config": CONFIG, **CASES[name]}
            found = counted(case, loss, Path(sys.argv[1]) / loss / name)
            shapes, peaks = counts_of(found)
            row = {
                "trl": version("trl"),
                "transformers": transformers.__version__,
                "objective": OBJECTIVES.get(loss, loss),
                "name": name,
                "shape": shapes[-1],
                "peaks": peaks,
                "llamafactory": version("llamafactory"),
            }
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
