"""`or` for a default, None for unset, a conditional dtype."""
import argparse

import torch
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

parser = argparse.ArgumentParser()
parser.add_argument("--batch", type=int)
parser.add_argument("--fp32", action="store_true")
parser.add_argument("--no-checkpointing", dest="checkpointing", action="store_false")
args = parser.parse_args()
batch = args.batch or 4
dtype = torch.float32 if args.fp32 else torch.bfloat16
model = AutoModelForCausalLM.from_pretrained("gpt2", torch_dtype=dtype)
Trainer(
    model=model,
    args=TrainingArguments(
        output_dir="out",
        per_device_train_batch_size=batch,
        gradient_checkpointing=args.checkpointing,
        bf16=not args.fp32,
    ),
).train()
