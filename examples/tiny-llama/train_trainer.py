"""Full fine-tuning with the Hugging Face Trainer, as most scripts do it."""

from __future__ import annotations

from dataclasses import dataclass

from tiny_data import ByteBlocks
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    HfArgumentParser,
    Trainer,
    TrainingArguments,
    set_seed,
)


@dataclass
class ScriptArguments:
    model_name_or_path: str
    max_length: int = 128


def main() -> None:
    script, training = HfArgumentParser(
        (ScriptArguments, TrainingArguments)
    ).parse_args_into_dataclasses()
    set_seed(training.seed)
    # Only the shape of the model is in the repository, so its weights are random.
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(script.model_name_or_path))
    trainer = Trainer(model=model, args=training, train_dataset=ByteBlocks(64, script.max_length))
    result = trainer.train()
    trainer.accelerator.print(f"trained: loss {result.training_loss:.3f}")
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main()
