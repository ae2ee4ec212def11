"""The parser's classes by name, and a default that is computed in __post_init__."""
from dataclasses import dataclass

from transformers import AutoModelForCausalLM, HfArgumentParser
from trl import SFTConfig, SFTTrainer


@dataclass
class Arguments:
    length: int = 512
    batch: int = 8

    def __post_init__(self):
        self.batch = self.batch // 2


parser = HfArgumentParser(dataclass_types=[Arguments])
args = parser.parse_args_into_dataclasses()[0]
config = SFTConfig("out", max_length=args.length, per_device_train_batch_size=args.batch)
model = AutoModelForCausalLM.from_pretrained("gpt2")
SFTTrainer(model=model, args=config).train()
