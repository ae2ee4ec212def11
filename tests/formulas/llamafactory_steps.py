"""Take two steps of LLaMA-Factory's own trainer of pairs on the CPU and print rows for older_objectives.jsonl.

Run as older_steps.py, in an environment with llamafactory and its TRL:
    PYTHONPATH=ROOT python ROOT/tests/formulas/llamafactory_steps.py FOLDER sigmoid,simpo,orpo
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import objective_steps
import torch
import transformers
from accelerate.state import AcceleratorState
from allocations import Allocations
from objective_steps import ROWS, lora_of, mark_steps, tokenizer, trained
from older_steps import CASES, CONFIG, softmax_copies

NAMES = ("16 bits", "autocast", "LoRA", "checkpointed", "deep")
OBJECTIVES = {"sigmoid": "dpo"}
LENGTH = 256


def trainer_of(case: dict, loss: str, folder: Path):
    """Return LLaMA-Factory's trainer; what is compared with is in the dtype that its loader gives what does not train."""
    from llamafactory.hparams import FinetuningArguments
    from llamafactory.train.dpo.trainer import CustomDPOTrainer

    vocab = case["config"]["vocab_size"]
    config = transformers.AutoConfig.for_model(**case["config"], pad_token_id=0, eos_token_id=1)
    config._attn_implementation = "sdpa"

    def made(dtype: torch.dtype):
        return transformers.AutoModelForCausalLM.from_config(config).to(dtype)

    def collate(rows):
        ids = torch.randint(3, vocab, (2 * len(rows), LENGTH))
        labels = ids.clone()
        labels[:, 0] = -100
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}

    model = made({"bf16": torch.bfloat16, "fp32": torch.float32}[case["load"]])
    reference = None
    if case.get("rank"):
        from peft import get_peft_model

        model = get_peft_model(model, lora_of(case))
    elif loss in OBJECTIVES:
        reference = made(torch.bfloat16)
    arguments = transformers.Seq2SeqTrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=2, max_steps=2, use_cpu=True, report_to=[],
        save_strategy="no", optim="adamw_torch", bf16=case.get("autocast", False),
        gradient_checkpointing=case.get("checkpointing", False),
        gradient_checkpointing_kwargs={"use_reentrant": False}, dataloader_pin_memory=False,
        disable_tqdm=True, remove_unused_columns=False,
    )  # fmt: skip
    kind = "lora" if case.get("rank") else "full"
    return CustomDPOTrainer(
        model=model,
        ref_model=reference,
        finetuning_args=FinetuningArguments(stage="dpo", pref_loss=loss, finetuning_type=kind),
        processor=None,
        args=arguments,
        data_collator=collate,
        train_dataset=list(range(ROWS)),
        tokenizer=tokenizer(vocab),
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
    objective_steps.fused_head = SimpleNamespace(
        head_like_cuda=lambda cast: nullcontext(), _every_position_counts=nullcontext
    )
    for loss in sys.argv[2].split(","):
        for name in NAMES:
            case = {"config": CONFIG, **CASES[name]}
            found = counted(case, loss, Path(sys.argv[1]) / loss / name)
            shapes, peaks = found["shapes"], found["peaks"]
            assert isinstance(shapes, list)
            assert isinstance(peaks, dict)
            row = {
                "trl": version("trl"),
                "transformers": transformers.__version__,
                "objective": OBJECTIVES.get(loss, loss),
                "name": name,
                "shape": shapes[-1],
                "peaks": {part: peak for part, peak in peaks.items() if part != "start"},
                "llamafactory": version("llamafactory"),
            }
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
