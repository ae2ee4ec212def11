"""A dataclass that no parser fills."""
from dataclasses import dataclass

from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer


@dataclass
class Config:
    model: str = "gpt2"
    length: int = 1024
    batch: int = 8
    accumulate: int = 1


cfg = Config(batch=2)
config = SFTConfig("out", max_length=cfg.length, per_device_train_batch_size=cfg.batch, gradient_accumulation_steps=cfg.accumulate)
model = AutoModelForCausalLM.from_pretrained(cfg.model)
SFTTrainer(model=model, args=config).train()
