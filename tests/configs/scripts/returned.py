"""Functions that give back another thing for every call, and that stop early."""
import argparse

from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments


def batch_of(opts, kind):
    told = {}
    rows = opts.rows if kind == "train" else 64
    if opts.style == "padded":
        told["per_device_train_batch_size"] = 2 * rows
    elif opts.style == "packed":
        told["per_device_train_batch_size"] = rows
    else:
        raise ValueError(opts.style)
    return told


def optimizer_of(opts):
    if not opts.cheap:
        return "adamw_torch"
    return "sgd"


def adapted(model, opts):
    if not getattr(opts, "adapts", False):
        return model
    return get_peft_model(model, LoraConfig(r=4, target_modules=opts.names.split(",")))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=3)
    parser.add_argument("--style", default="packed")
    parser.add_argument("--cheap", action="store_true")
    parser.add_argument("--adapts", action="store_true")
    parser.add_argument("--names", default="c_attn,c_proj")
    opts = parser.parse_args()
    model = adapted(AutoModelForCausalLM.from_pretrained("gpt2"), opts)
    evaluated = batch_of(opts, "eval")
    args = TrainingArguments(output_dir="out", optim=optimizer_of(opts), **batch_of(opts, "train"))
    args.gradient_checkpointing = args.gradient_checkpointing or opts.cheap
    Trainer(model=model, args=args).train()
    return evaluated


main()
