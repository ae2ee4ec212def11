"""`TrainingArguments(**vars(args))`, as small scripts do."""
import argparse

from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

parser = argparse.ArgumentParser()
parser.add_argument("--output_dir", default="out")
parser.add_argument("--per_device_train_batch_size", type=int, default=2)
parser.add_argument("--gradient_accumulation_steps", type=int, default=16)
parser.add_argument("--bf16", action="store_true")
parser.add_argument("--gradient_checkpointing", action="store_true")
parser.add_argument("--optim", default="adafactor")
args = parser.parse_args()
training_args = TrainingArguments(**vars(args))
model = AutoModelForCausalLM.from_pretrained("facebook/opt-1.3b")
Trainer(model=model, args=training_args).train()
