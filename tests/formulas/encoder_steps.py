"""Train encoders under every head for two steps on the CPU with Trainer, and count what is alive in each part, as JSON.

The models are random and tiny; hidden states drop out as their classes do, with a mask of bytes as on a GPU, and attention
does not, for which the CPU's kernel has no way but whole scores. Usage: encoder_steps.py CASES_JSON FOLDER
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
import transformers
from allocations import Allocations
from datasets import Dataset
from objective_steps import main, mark_steps, trained
from transformers import AutoConfig, Trainer, TrainingArguments

from preflight.trace.encoders import mean_of
from preflight.trace.patches import cuda_dropout

ROWS = 8
CLASSES = {
    "masked_lm": "AutoModelForMaskedLM",
    "sequence_classification": "AutoModelForSequenceClassification",
    "token_classification": "AutoModelForTokenClassification",
    "embedding": "AutoModel",
    "causal_lm": "AutoModelForCausalLM",
}


class Means(Trainer):
    """Trains the mean of every row's hidden states."""

    def compute_loss(self, model, inputs, return_outputs=False, **_):
        return mean_of(model(**inputs), inputs["attention_mask"])


def lora_of(case: dict):
    """Return PEFT's config of an adapter on every linear layer but the head's, which a task of PEFT's trains whole."""
    from peft import LoraConfig

    tasks = {"sequence_classification": "SEQ_CLS", "token_classification": "TOKEN_CLS"}
    return LoraConfig(
        r=case["rank"],
        target_modules=["query", "key", "value", "dense"],
        exclude_modules=r".*classifier.*",
        lora_dropout=0.0,
        task_type=tasks.get(case["head"]),
    )


def rows_of(case: dict) -> Dataset:
    """Return rows that fill the length, but for a short one where a case has padding."""
    length = case["length"]
    words = [[random.randrange(3, 500) for _ in range(length)] for _ in range(ROWS)]
    masks = [[1] * length for _ in range(ROWS)]
    if case.get("padded"):
        masks = [[1] * (length - row % 2) + [0] * (row % 2) for row in range(ROWS)]
    labels = [random.randrange(2) for _ in range(ROWS)]
    if case["head"] in ("masked_lm", "token_classification", "causal_lm"):
        labels = [[random.randrange(2) for _ in range(length)] for _ in range(ROWS)]
    columns = {"input_ids": words, "attention_mask": masks}
    return Dataset.from_dict(
        columns if case["head"] == "embedding" else {**columns, "labels": labels}
    )


def counted(case: dict, folder: Path) -> dict[str, object]:
    """Return the peaks of the second step, and the rows that the model saw."""
    random.seed(0)
    torch.manual_seed(0)
    config = AutoConfig.for_model(**case["config"])
    model = getattr(transformers, CLASSES[case["head"]]).from_config(
        config, attn_implementation=case["attention"]
    )
    if case.get("rank"):
        from peft import get_peft_model

        model = get_peft_model(model, lora_of(case))
    arguments = TrainingArguments(
        output_dir=str(folder / "out"), per_device_train_batch_size=case["micro"], max_steps=2, use_cpu=True,
        report_to=[], save_strategy="no", optim="adamw_torch_fused", bf16=case.get("autocast", False),
        gradient_checkpointing=case.get("checkpointing", False), dataloader_pin_memory=False, disable_tqdm=True,
    )  # fmt: skip
    make = Means if case["head"] == "embedding" else Trainer
    trainer = make(model=model, args=arguments, train_dataset=rows_of(case))
    allocations = Allocations()
    mark_steps(trainer, allocations)
    with cuda_dropout():
        return trained(trainer, allocations)


if __name__ == "__main__":
    main(counted)
