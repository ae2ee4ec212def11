"""Full fine-tuning with transformers' Trainer; every setting is a flag."""

from dataclasses import dataclass

from datasets import load_dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    HfArgumentParser,
    Trainer,
    TrainingArguments,
)


@dataclass
class DataArguments:
    model_name_or_path: str
    max_length: int = 4096
    dataset_name: str = "HuggingFaceFW/fineweb-edu"


parser = HfArgumentParser((TrainingArguments, DataArguments))
training_args, data_args = parser.parse_args_into_dataclasses()
tokenizer = AutoTokenizer.from_pretrained(data_args.model_name_or_path)
tokenizer.pad_token = tokenizer.eos_token
model = AutoModelForCausalLM.from_pretrained(data_args.model_name_or_path)
dataset = load_dataset(data_args.dataset_name, split="train").map(
    lambda row: tokenizer(row["text"], truncation=True, max_length=data_args.max_length)
)
collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
Trainer(model, training_args, train_dataset=dataset, data_collator=collator).train()
