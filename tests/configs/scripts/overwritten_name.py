"""One name, given a value twice."""
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

batch = 8
model = AutoModelForCausalLM.from_pretrained("gpt2")
batch = batch // 4
args = TrainingArguments(output_dir="out", per_device_train_batch_size=batch, max_grad_norm=0.6)
Trainer(model=model, args=args).train()
