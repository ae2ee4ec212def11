"""Two configs extend TRL's; one of them is parsed."""
from dataclasses import dataclass

from transformers import AutoModelForCausalLM
from trl import GRPOConfig, SFTConfig, SFTTrainer, TrlParser


@dataclass
class OurScript:
    model: str = "gpt2"


@dataclass
class OurGRPO(GRPOConfig):
    per_device_train_batch_size: int = 16
    gradient_accumulation_steps: int = 7


@dataclass
class OurSFT(SFTConfig):
    per_device_train_batch_size: int = 2
    max_length: "int | None" = 320


parser = TrlParser((OurScript, OurSFT))
script_args, training_args = parser.parse_args_and_config()
model = AutoModelForCausalLM.from_pretrained(script_args.model)
SFTTrainer(model=model, args=training_args).train()
