"""A training loop of one's own around `accelerate.Accelerator`."""

from __future__ import annotations

import argparse
from itertools import cycle

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from ragged_data import RaggedRows
from transformers import AutoModelForCausalLM


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model_name_or_path", required=True)
    parser.add_argument("--per_device_train_batch_size", type=int, default=4)
    parser.add_argument("--gradient_accumulation_steps", type=int, default=1)
    parser.add_argument("--max_length", type=int, default=32)
    parser.add_argument("--max_steps", type=int, default=20)
    parser.add_argument("--learning_rate", type=float, default=3e-3)
    args = parser.parse_args()

    accelerator = Accelerator(gradient_accumulation_steps=args.gradient_accumulation_steps)
    set_seed(0)
    model = AutoModelForCausalLM.from_pretrained(args.model_name_or_path)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate)
    loader = torch.utils.data.DataLoader(
        RaggedRows(args.max_length), batch_size=args.per_device_train_batch_size
    )
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    model.train()
    batches = cycle(loader)
    for _ in range(args.max_steps * args.gradient_accumulation_steps):
        with accelerator.accumulate(model):
            loss = model(**next(batches)).loss
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
    accelerator.end_training()


if __name__ == "__main__":
    main()
