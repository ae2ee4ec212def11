"""Everything in a class."""
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments


class Finetuner:
    BATCH = 2

    def __init__(self, name="gpt2-medium", steps=4):
        self.name = name
        self.steps = steps

    def arguments(self):
        return TrainingArguments(
            output_dir="out",
            per_device_train_batch_size=self.BATCH,
            gradient_accumulation_steps=self.steps,
            gradient_checkpointing=True,
        )

    def run(self):
        model = AutoModelForCausalLM.from_pretrained(self.name)
        Trainer(model=model, args=self.arguments()).train()


Finetuner(steps=10).run()
