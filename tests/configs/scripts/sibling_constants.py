"""Constants of a sibling module, and one that is computed there."""
import constants as C
from constants import BASE_MODEL, LORA
from peft import LoraConfig
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer

model = AutoModelForCausalLM.from_pretrained(BASE_MODEL, dtype=C.DTYPE)
args = SFTConfig(
    output_dir="out",
    per_device_train_batch_size=C.MICRO_BATCH,
    gradient_accumulation_steps=C.STEPS,
    max_length=C.CONTEXT,
    bf16=False,
)
SFTTrainer(model=model, args=args, peft_config=LoraConfig(**LORA)).train()
