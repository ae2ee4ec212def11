"""Settings of a YAML file that the command line names, as attributes of an object of the script's own."""
import argparse

import yaml
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments


class Settings:
    def __init__(self, entries):
        self.__dict__ = entries


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("settings")
    parser.add_argument("--steps", type=int, default=2)
    opts = parser.parse_args()
    with open(opts.settings) as file:
        entries = yaml.safe_load(file)
    settings = Settings(entries)
    model = AutoModelForCausalLM.from_pretrained(settings.name)
    args = TrainingArguments(
        output_dir="out",
        per_device_train_batch_size=settings.rows,
        gradient_accumulation_steps=opts.steps,
        optim=entries["optimizer"]["name"],
        bf16=settings.half,
    )
    Trainer(model=model, args=args).train()


main()
