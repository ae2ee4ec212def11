"""Parsed arguments are changed before they are used."""
import argparse

from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

parser = argparse.ArgumentParser()
parser.add_argument("--batch", type=int, default=16)
parser.add_argument("--debug", action="store_true")
parser.set_defaults(batch=6)
args = parser.parse_args()
if args.debug:
    args.batch = 1
args.batch //= 2
model = AutoModelForCausalLM.from_pretrained("gpt2")
Trainer(model=model, args=TrainingArguments("out", per_device_train_batch_size=args.batch)).train()
