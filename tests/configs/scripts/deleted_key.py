"""A dict loses a key, and a helper cleans it."""
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

settings = dict(per_device_train_batch_size=4, bf16=True, max_grad_norm=0.1)
settings.pop("bf16")
for name in ("max_grad_norm",):
    del settings[name]
model = AutoModelForCausalLM.from_pretrained("gpt2")
Trainer(model=model, args=TrainingArguments("out", **settings)).train()
