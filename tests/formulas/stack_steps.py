"""Train encoders with a decoder for two steps on the CPU with Seq2SeqTrainer, and count what is alive in each part, as JSON.

The models are random and tiny and drop out as their classes do, with a mask of bytes as on a GPU; a CPU's kernel of torch
takes no table of distances that trains, so they attend eagerly. Usage: stack_steps.py CASES_JSON FOLDER
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from allocations import Allocations
from datasets import Dataset
from objective_steps import main, mark_steps, trained
from transformers import AutoConfig, Seq2SeqTrainer, Seq2SeqTrainingArguments

from preflight.trace.patches import cuda_dropout, replaced
from preflight.trace.stacks import auto_class_of_stacks, untie

ROWS = 8
GENERATES = {
    "predict_with_generate": True, "eval_strategy": "steps", "eval_steps": 2, "per_device_eval_batch_size": 8,
}  # fmt: skip


@contextmanager
def in_float_like_cuda() -> Iterator[None]:
    """Take softmax and powers in fp32 under autocast, as a GPU's autocast does and a CPU's does not
    (aten/src/ATen/autocast_mode.h, AT_FORALL_FP32, torch 2.13)."""

    def widened(function):
        def wide(value, *arguments, **keywords):
            is_narrow = torch.is_autocast_enabled("cpu") and value.dtype == torch.bfloat16
            return function(value.float() if is_narrow else value, *arguments, **keywords)

        return wide

    places = ((torch.nn.functional, "softmax"), (torch, "pow"))
    with ExitStack() as patches:
        for owner, name in places:
            patches.enter_context(replaced(owner, name, widened(getattr(owner, name))))
        yield


def rows_of(case: dict) -> Dataset:
    """Return questions and answers that fill their lengths, but for one short row in two."""
    length, answer = case["length"], case["answer"]
    words = [[random.randrange(3, 500) for _ in range(length)] for _ in range(ROWS)]
    masks = [[1] * (length - row % 2) + [0] * (row % 2) for row in range(ROWS)]
    if case["config"]["model_type"] == "whisper":
        sounds = torch.randn(ROWS, case["config"]["num_mel_bins"], 2 * length)
        labels = [[random.randrange(3, 500) for _ in range(answer)] for _ in range(ROWS)]
        return Dataset.from_dict({"input_features": sounds.numpy(), "labels": labels})
    labels = [[random.randrange(3, 500) for _ in range(answer)] for _ in range(ROWS)]
    return Dataset.from_dict({"input_ids": words, "attention_mask": masks, "labels": labels})


def counted(case: dict, folder: Path) -> dict[str, object]:
    """Return the peaks of the second step, and the rows that the model saw."""
    random.seed(0)
    torch.manual_seed(0)
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[case.get("load", "fp32")]
    config = AutoConfig.for_model(**case["config"])
    model = auto_class_of_stacks(config).from_config(
        config, attn_implementation=case["attention"], dtype=dtype
    )
    if case["config"].get("tie_word_embeddings") is False:
        untie(model)
    if case.get("rank"):
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            task_type=None if case["config"]["model_type"] == "whisper" else "SEQ_2_SEQ_LM",
            r=case["rank"],
            target_modules=case.get("targets"),
            lora_dropout=case.get("dropout", 0.0),
        )
        model = get_peft_model(model, config)
    arguments = Seq2SeqTrainingArguments(
        output_dir=str(folder / "out"), generation_max_length=case["answer"], per_device_train_batch_size=case["micro"], max_steps=2, use_cpu=True,
        report_to=[], save_strategy="no", optim="adamw_torch_fused", bf16=case.get("autocast", False),
        gradient_checkpointing=case.get("checkpointing", False), dataloader_pin_memory=False, disable_tqdm=True,
        **GENERATES | {"generation_num_beams": case["beams"]} if "beams" in case else {},
    )  # fmt: skip
    rows = rows_of(case)
    held = {"eval_dataset": rows, "compute_metrics": lambda _: {}} if "beams" in case else {}
    trainer = Seq2SeqTrainer(model=model, args=arguments, train_dataset=rows, **held)
    allocations = Allocations()
    mark_steps(trainer, allocations)
    evaluate = trainer.evaluate

    def marked(*args, **keywords):
        allocations.mark("evaluation")
        return evaluate(*args, **keywords)

    trainer.evaluate = marked
    if "beams" in case:  # no answer ends before it is as long as it may be
        model.generation_config.eos_token_id = None
        model.generation_config.forced_eos_token_id = None
    with cuda_dropout(), in_float_like_cuda():
        return trained(trainer, allocations)


if __name__ == "__main__":
    main(counted)
