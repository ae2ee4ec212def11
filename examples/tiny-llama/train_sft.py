"""Supervised fine-tuning with TRL: full, or LoRA with `--use_peft`."""

from __future__ import annotations

from datasets import Dataset
from tiny_data import byte_tokenizer, sentences
from transformers import AutoConfig, AutoModelForCausalLM, set_seed
from trl import ModelConfig, SFTConfig, SFTTrainer, TrlParser, get_peft_config


def main() -> None:
    training, model_args = TrlParser((SFTConfig, ModelConfig)).parse_args_and_config()
    set_seed(training.seed)
    # Only the shape of the model is in the repository, so its weights are random.
    model = AutoModelForCausalLM.from_config(
        AutoConfig.from_pretrained(model_args.model_name_or_path), dtype=model_args.dtype
    )
    trainer = SFTTrainer(
        model=model,
        args=training,
        # A word is four bytes or more with its space, so every sentence fills max_length.
        train_dataset=Dataset.from_dict({"text": sentences(64, training.max_length)}),
        processing_class=byte_tokenizer(),
        peft_config=get_peft_config(model_args),
    )
    result = trainer.train()
    trainer.accelerator.print(f"trained: loss {result.training_loss:.3f}")
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main()
