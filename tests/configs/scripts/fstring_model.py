"""The model's name is put together."""
import argparse

from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

ORGANISATION = "Qwen"
parser = argparse.ArgumentParser()
parser.add_argument("--size", default="1.5B")
args = parser.parse_args()
name = f"{ORGANISATION}/Qwen2.5-{args.size}"
model = AutoModelForCausalLM.from_pretrained(name)
Trainer(model=model, args=TrainingArguments("out", per_device_train_batch_size=2)).train()
