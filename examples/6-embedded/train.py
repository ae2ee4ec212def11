"""Full fine-tuning of a tiny model on random bytes, with the Hugging Face Trainer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    HfArgumentParser,
    Trainer,
    TrainingArguments,
    set_seed,
)

import preflight


@dataclass
class ScriptArguments:
    model_name_or_path: str
    max_length: int = 512


def main() -> None:
    script, training = HfArgumentParser(
        (ScriptArguments, TrainingArguments)
    ).parse_args_into_dataclasses()
    set_seed(training.seed)
    # Only the shape of the model is in the repository, so its weights are random.
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(script.model_name_or_path))
    rows = [torch.randint(0, 256, (script.max_length,)) for _ in range(64)]
    trainer = Trainer(
        model=model,
        args=training,
        train_dataset=[{"input_ids": row, "labels": row} for row in rows],
        callbacks=[preflight.PreflightCallback()],
    )
    result = trainer.train()
    if trainer.is_world_process_zero():
        print(
            f"trained on {training.world_size} ranks,"
            f" {training.per_device_train_batch_size} x {training.gradient_accumulation_steps} sequences each,"
            f" checkpointing {'on' if training.gradient_checkpointing else 'off'},"
            f" loss {result.training_loss:.2f}"
        )


if __name__ == "__main__":
    main()
