"""A dict of settings, changed before it is used."""
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

common = {"bf16": True, "gradient_checkpointing": True, "optim": "adamw_bnb_8bit"}
settings = {**common, "per_device_train_batch_size": 2}
settings["gradient_accumulation_steps"] = 8
settings.update(max_grad_norm=0.7)
model = AutoModelForCausalLM.from_pretrained("gpt2")
Trainer(model=model, args=TrainingArguments("out", **settings)).train()
