"""click, with short names and a callback."""
import click
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments


@click.command()
@click.option("-b", "--batch-size", "batch", default=4, type=int)
@click.option("--accumulate", default=8)
@click.option("--checkpointing/--no-checkpointing", default=True)
def main(batch, accumulate, checkpointing):
    args = TrainingArguments(
        output_dir="out",
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulate,
        gradient_checkpointing=checkpointing,
    )
    Trainer(model=AutoModelForCausalLM.from_pretrained("gpt2"), args=args).train()


if __name__ == "__main__":
    main()
