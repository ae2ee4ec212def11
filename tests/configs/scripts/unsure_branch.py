"""Which arguments hold is known only on the machine."""
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer

if torch.cuda.device_count() > 1:
    args = SFTConfig("out", per_device_train_batch_size=16, max_length=8192, bf16=False)
else:
    args = SFTConfig("out", per_device_train_batch_size=1, max_length=256, bf16=False)
model = AutoModelForCausalLM.from_pretrained("gpt2")
SFTTrainer(model=model, args=args, peft_config=LoraConfig(r=8)).train()
