"""Dataclasses that inherit fields from one another."""
from dataclasses import dataclass, field

from transformers import AutoModelForCausalLM, HfArgumentParser
from trl import SFTConfig, SFTTrainer


@dataclass
class Base:
    model: str = "gpt2"
    length: int = 1024
    batch: int = field(default=8)


@dataclass
class Arguments(Base):
    batch: int = 2
    out: str = "out"


(args,) = HfArgumentParser((Arguments,)).parse_args_into_dataclasses()
config = SFTConfig(args.out, max_length=args.length, per_device_train_batch_size=args.batch)
model = AutoModelForCausalLM.from_pretrained(args.model)
SFTTrainer(model=model, args=config).train()
