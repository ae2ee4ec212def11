"""Types of fields that the parser converts by: bool, Literal, an enumeration, a list."""
from dataclasses import dataclass, field
from enum import Enum
from typing import List, Literal, Optional

from peft import LoraConfig
from transformers import AutoModelForCausalLM, HfArgumentParser
from trl import SFTConfig, SFTTrainer


class Optim(Enum):
    adam = "adamw_torch"
    small = "adafactor"


@dataclass
class Arguments:
    length: Literal[512, 1024, 2048] = 1024
    pack: bool = False
    recompute: bool = True
    clip: Optional[float] = None
    optim: Optim = Optim.small
    targets: List[str] = field(default_factory=lambda: ["q_proj", "v_proj"])
    batches: List[int] = field(default_factory=lambda: [4, 2])


(args,) = HfArgumentParser(Arguments).parse_args_into_dataclasses()
config = SFTConfig(
    "out",
    max_length=args.length,
    packing=args.pack,
    gradient_checkpointing=args.recompute,
    optim=args.optim.value if isinstance(args.optim, Optim) else args.optim,
    per_device_train_batch_size=args.batches[0],
)
if args.clip:
    config.max_grad_norm = args.clip
lora = LoraConfig(r=8, target_modules=args.targets)
model = AutoModelForCausalLM.from_pretrained("gpt2")
SFTTrainer(model=model, args=config, peft_config=lora).train()
