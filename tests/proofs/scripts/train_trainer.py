"""Full fine-tuning with the Hugging Face Trainer."""

from __future__ import annotations

from dataclasses import dataclass

from ragged_data import RaggedRows
from transformers import (
    AutoModelForCausalLM,
    HfArgumentParser,
    Trainer,
    TrainingArguments,
    set_seed,
)


@dataclass
class ScriptArguments:
    model_name_or_path: str
    max_length: int = 32


def main() -> None:
    script, training = HfArgumentParser(
        (ScriptArguments, TrainingArguments)
    ).parse_args_into_dataclasses()
    set_seed(training.seed)
    trainer = Trainer(
        model=AutoModelForCausalLM.from_pretrained(script.model_name_or_path),
        args=training,
        train_dataset=RaggedRows(script.max_length),
        eval_dataset=RaggedRows(script.max_length, seed=1),
    )
    trainer.train()
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main()
