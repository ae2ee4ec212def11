"""A loop tries batch sizes until one fits."""
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

model = AutoModelForCausalLM.from_pretrained("gpt2")
for batch in (32, 16, 8):
    args = TrainingArguments(output_dir="out", per_device_train_batch_size=batch, max_grad_norm=0.9)
    try:
        Trainer(model=model, args=args).train()
        break
    except RuntimeError:
        continue
