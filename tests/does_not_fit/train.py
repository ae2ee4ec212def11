"""Continues a language model's training with transformers' Trainer."""

from dataclasses import dataclass, field

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
class ScriptArguments:
    model_name_or_path: str = field()
    data: str = field(default="corpus.jsonl")
    max_length: int = field(default=4096)


script, training = HfArgumentParser((ScriptArguments, TrainingArguments)).parse_args_into_dataclasses()
tokenizer = AutoTokenizer.from_pretrained(script.model_name_or_path)
model = AutoModelForCausalLM.from_pretrained(script.model_name_or_path)
rows = load_dataset("json", data_files=script.data, split="train")
rows = rows.map(lambda row: tokenizer(row["text"], truncation=True, max_length=script.max_length))
Trainer(
    model=model,
    args=training,
    train_dataset=rows,
    data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
).train()
