"""Settings come from the environment, with defaults."""
import os

from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

BASE = os.environ.get("BASE_MODEL", "Qwen/Qwen2.5-7B")
BATCH = int(os.getenv("BATCH_SIZE", "4"))
STEPS = int(os.environ.get("GLOBAL_BATCH", 128)) // BATCH
USE_BF16 = os.environ.get("PRECISION", "bf16") == "bf16"

model = AutoModelForCausalLM.from_pretrained(BASE, torch_dtype="auto")
args = TrainingArguments(
    output_dir=f"runs/{BASE.split('/')[-1]}",
    per_device_train_batch_size=BATCH,
    gradient_accumulation_steps=STEPS,
    bf16=USE_BF16,
    gradient_checkpointing=os.environ.get("GC", "0") == "1",
)
Trainer(model=model, args=args).train()
