"""A method is chosen by a flag; each branch has its own batch."""
import argparse

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--method", choices=["full", "lora"], default="full")
    parser.add_argument("--model", default="mistralai/Mistral-7B-v0.1")
    opts = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(opts.model, torch_dtype=torch.bfloat16)
    if opts.method == "lora":
        model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"))
        batch, lr = 8, 2e-4
    else:
        batch, lr = 1, 1e-5
    args = TrainingArguments(
        output_dir="out",
        per_device_train_batch_size=batch,
        learning_rate=lr,
        gradient_checkpointing=opts.method == "full",
        bf16=True,
    )
    Trainer(model=model, args=args).train()


if __name__ == "__main__":
    main()
