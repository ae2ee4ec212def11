"""What config_module.py parses."""
from dataclasses import dataclass, field

from transformers import HfArgumentParser

LENGTH = 4096


@dataclass
class Arguments:
    model: str = field(default="gpt2")
    length: int = field(default=LENGTH // 2)
    batch: int = 3


def read():
    parser = HfArgumentParser(Arguments)
    return parser.parse_args_into_dataclasses()[0]
