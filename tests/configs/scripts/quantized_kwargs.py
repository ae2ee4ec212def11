"""Options of the model in a dict, 8 bits, bits chosen by a flag."""
import argparse

import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Trainer, TrainingArguments

parser = argparse.ArgumentParser()
parser.add_argument("--bits", type=int, default=8)
args = parser.parse_args()
quantization = BitsAndBytesConfig(
    load_in_8bit=args.bits == 8, load_in_4bit=args.bits == 4, bnb_4bit_compute_dtype=torch.bfloat16
)
options = {"quantization_config": quantization, "attn_implementation": "eager"}
model = AutoModelForCausalLM.from_pretrained("bigscience/bloom-7b1", **options)
model = prepare_model_for_kbit_training(model)
model = get_peft_model(model, LoraConfig(r=16, target_modules=["query_key_value"]))
Trainer(model=model, args=TrainingArguments("out", per_device_train_batch_size=2)).train()
