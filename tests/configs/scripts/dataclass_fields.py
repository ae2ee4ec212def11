"""HfArgumentParser with dataclasses of its own, the Trainer's class extended."""
from dataclasses import dataclass, field
from typing import List, Optional

import transformers
from peft import LoraConfig, get_peft_model
from transformers import HfArgumentParser, Trainer


@dataclass
class ModelArguments:
    model_name_or_path: Optional[str] = field(default="huggyllama/llama-7b")
    attn: str = field(default="sdpa")


@dataclass
class LoraArguments:
    lora_r: int = 8
    lora_alpha: int = 16
    lora_dropout: float = 0.05
    lora_target_modules: List[str] = field(default_factory=lambda: ["q_proj", "v_proj"])


@dataclass
class TrainingArguments(transformers.TrainingArguments):
    output_dir: Optional[str] = field(default="out")
    model_max_length: int = field(default=2048, metadata={"help": "cut here"})
    optim: str = field(default="adamw_torch")
    gradient_checkpointing: Optional[bool] = field(default=True)


def train():
    parser = HfArgumentParser((ModelArguments, TrainingArguments, LoraArguments))
    model_args, training_args, lora_args = parser.parse_args_into_dataclasses()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        model_args.model_name_or_path, attn_implementation=model_args.attn
    )
    config = LoraConfig(
        r=lora_args.lora_r,
        lora_alpha=lora_args.lora_alpha,
        target_modules=lora_args.lora_target_modules,
        lora_dropout=lora_args.lora_dropout,
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(model, config)
    Trainer(model=model, args=training_args).train()
    print("rows of", training_args.model_max_length)


if __name__ == "__main__":
    train()
