"""A subclass of SFTConfig that is made and not parsed; __post_init__ fills what is missing and changes the rest."""
from dataclasses import dataclass, field
from typing import Optional

from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer


@dataclass
class ShortConfig(SFTConfig):
    output_dir: str = "out"
    max_length: Optional[int] = field(default=640)
    optim: str = "adafactor"
    max_grad_norm: Optional[float] = 0.5
    per_device_train_batch_size: int = 2

    def __post_init__(self):
        if self.max_length is None:
            self.max_length = 99
        if self.optim is None:
            self.optim = "adamw_torch"
        self.per_device_train_batch_size = 2 * self.per_device_train_batch_size
        super().__post_init__()


config = ShortConfig(gradient_accumulation_steps=3)
model = AutoModelForCausalLM.from_pretrained("gpt2")
SFTTrainer(model=model, args=config).train()
