"""Everything comes from a YAML file that the script loads itself."""
import sys

import yaml
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

with open(sys.argv[1]) as file:
    config = yaml.safe_load(file)
model = AutoModelForCausalLM.from_pretrained(config["model"])
args = TrainingArguments(output_dir="out", max_grad_norm=0.5, **config["training"])
Trainer(model=model, args=args).train()
