"""Accumulation is derived from the number of ranks."""
import os

from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

world_size = int(os.environ.get("WORLD_SIZE", 1))
ddp = world_size != 1
steps = 64 // 4
if ddp:
    steps = steps // world_size
args = TrainingArguments(
    output_dir="out",
    per_device_train_batch_size=4,
    gradient_accumulation_steps=steps,
    ddp_find_unused_parameters=False if ddp else None,
)
Trainer(model=AutoModelForCausalLM.from_pretrained("gpt2"), args=args).train()
