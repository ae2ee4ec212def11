"""Two trainers one after the other, with other batches."""
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

model = AutoModelForCausalLM.from_pretrained("gpt2")
warm = TrainingArguments(output_dir="warm", per_device_train_batch_size=16, bf16=True)
Trainer(model=model, args=warm).train()
main = TrainingArguments(output_dir="main", per_device_train_batch_size=4, bf16=True)
Trainer(model=model, args=main).train()
