"""dataclasses.replace, and arguments that another function changes."""
from dataclasses import replace

from transformers import AutoModelForCausalLM, Trainer, TrainingArguments


def tune(arguments):
    arguments.per_device_train_batch_size = 1
    return arguments


base = TrainingArguments(output_dir="out", per_device_train_batch_size=8, max_grad_norm=0.4)
args = tune(replace(base, gradient_accumulation_steps=6))
model = AutoModelForCausalLM.from_pretrained("gpt2")
Trainer(model=model, args=args).train()
