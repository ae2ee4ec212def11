"""A parameter shadows a constant of the module."""
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

BATCH = 32


def run(BATCH, steps=2):
    args = TrainingArguments(
        output_dir="out", per_device_train_batch_size=BATCH, gradient_accumulation_steps=steps
    )
    Trainer(model=AutoModelForCausalLM.from_pretrained("gpt2"), args=args).train()


run(3)
