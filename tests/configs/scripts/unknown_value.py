"""The batch depends on the GPU, the rest does not."""
import torch
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

memory = torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else 0
batch = 8 if memory > 40 * 1024**3 else 2
model = AutoModelForCausalLM.from_pretrained("gpt2-xl", torch_dtype=torch.float16)
args = TrainingArguments(
    "out",
    per_device_train_batch_size=batch,
    gradient_accumulation_steps=32 // batch,
    gradient_checkpointing=True,
    bf16=torch.cuda.is_available() and torch.cuda.is_bf16_supported(),
)
Trainer(model=model, args=args).train()
