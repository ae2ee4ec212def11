"""Old habits: arguments by position."""
from peft import LoraConfig, TaskType, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

model = AutoModelForCausalLM.from_pretrained("gpt2")
model = get_peft_model(model, LoraConfig(task_type=TaskType.CAUSAL_LM, r=4))
Trainer(model, TrainingArguments("out", 5)).train()
