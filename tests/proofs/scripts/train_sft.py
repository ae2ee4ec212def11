"""Supervised fine-tuning with TRL on rows of token ids: full, or LoRA with `--use_peft`."""

from __future__ import annotations

from datasets import Dataset
from ragged_data import rows
from tiny_data import byte_tokenizer
from transformers import AutoModelForCausalLM, set_seed
from trl import ModelConfig, SFTConfig, SFTTrainer, TrlParser, get_peft_config


def main() -> None:
    training, model_args = TrlParser((SFTConfig, ModelConfig)).parse_args_and_config()
    set_seed(training.seed)
    model = AutoModelForCausalLM.from_pretrained(
        model_args.model_name_or_path,
        dtype=model_args.dtype,
        attn_implementation=model_args.attn_implementation,
    )
    trainer = SFTTrainer(
        model=model,
        args=training,
        train_dataset=Dataset.from_dict({"input_ids": rows(training.max_length)}),
        processing_class=byte_tokenizer(),
        peft_config=get_peft_config(model_args),
    )
    trainer.train()
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main()
