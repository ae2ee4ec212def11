"""Names that are given a value in a branch, anew further down, or in a loop, and handed on by two calls."""
import argparse

import torch
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments


def load(name, half, depth):
    if half:
        dtype = torch.bfloat16
    elif depth > 100:
        dtype = torch.float16
    else:
        dtype = torch.float32
    kwargs = {"attn_implementation": None}
    if half:
        kwargs["attn_implementation"] = "eager"
    else:
        kwargs["attn_implementation"] = "sdpa"
    try:
        return AutoModelForCausalLM.from_pretrained(
            name,
            torch_dtype=dtype,
            **kwargs,
        )
    finally:
        dtype = torch.float64


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--half", action="store_true")
    parser.add_argument("--depth", type=int, default=0)
    opts = parser.parse_args()
    size = 4
    model, twin = (load("gpt2", opts.half, opts.depth), load("gpt2", opts.half, opts.depth))
    saves = False
    if opts.half and opts.depth == 2:
        size = size - 1
        saves = True
    steps = 1
    args = []
    for _ in range(2):
        args.append(TrainingArguments(output_dir="out", per_device_train_batch_size=size, bf16=opts.half, gradient_accumulation_steps=steps, gradient_checkpointing=saves))  # fmt: skip
        steps = 2
    size = 16
    Trainer(model=model, args=args[1]).train()


if __name__ == "__main__":
    main()
