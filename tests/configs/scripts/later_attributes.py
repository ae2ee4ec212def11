"""Values are set on the object afterwards."""
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

args = TrainingArguments(output_dir="out", per_device_train_batch_size=16)
args.per_device_train_batch_size = 3
args.gradient_accumulation_steps = 5
args.max_grad_norm = 0.25
model = AutoModelForCausalLM.from_pretrained("gpt2")
Trainer(model=model, args=args).train()
