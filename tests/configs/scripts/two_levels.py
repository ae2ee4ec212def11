"""A config class two levels below TRL's, plain defaults."""
from dataclasses import dataclass

from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer, TrlParser, ModelConfig


@dataclass
class OurConfig(SFTConfig):
    max_length: int = 2048
    per_device_train_batch_size: int = 4
    gradient_accumulation_steps: int = 2


@dataclass
class LongConfig(OurConfig):
    max_length: int = 16384


@dataclass
class OurModel(ModelConfig):
    model_name_or_path: str = "gpt2"
    lora_r: int = 64


parser = TrlParser((LongConfig, OurModel))
training_args, model_args = parser.parse_args_and_config()
model = AutoModelForCausalLM.from_pretrained(model_args.model_name_or_path)
SFTTrainer(model=model, args=training_args).train()
