"""Functions return the configs."""
from peft import LoraConfig
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer


def lora(rank):
    return LoraConfig(r=rank, lora_alpha=rank * 2, target_modules=["q_proj", "k_proj"])


def training(batch=2, length=512):
    return SFTConfig("out", per_device_train_batch_size=batch, max_length=length, bf16=False)


model = AutoModelForCausalLM.from_pretrained("gpt2")
SFTTrainer(model=model, args=training(batch=6), peft_config=lora(32)).train()
