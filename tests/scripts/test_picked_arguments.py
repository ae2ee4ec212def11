"""Of several classes of arguments only the one that the script's parser is given says anything."""

from __future__ import annotations

import pytest
from launch_of_script import opens, plan_of

SCRIPT = """\
from dataclasses import dataclass
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, HfArgumentParser, Trainer, TrainingArguments

@dataclass
class Data:
    block_size: int = 1024

@dataclass
class Tuning(TrainingArguments):
    optim: str = "adafactor"

@dataclass
class Comparing(Tuning):
    {length}: int = 256
    optim: str = "sgd"

@dataclass
class Ranking(Tuning):
    bf16: bool = True

KINDS = {{"tune": Tuning, "compare": Comparing, "rank": Ranking}}

class Classes:
    def of(kind):
        return KINDS[kind]

def main():
    Arguments = {pick}
    data, args = HfArgumentParser((Data, Arguments)).parse_args_into_dataclasses()
    model = AutoModelForCausalLM.from_pretrained("gpt2", torch_dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained("gpt2")
    rows = texts.map(lambda row: tokenizer(row["text"], truncation=True, max_length=data.block_size))
    Trainer(model=model, args=args, train_dataset=rows).train()

main()
"""


def read(tmp_path, pick, flags=" --block_size 512", length="max_length"):
    text = SCRIPT.format(pick=pick, length=length)
    return plan_of(tmp_path, f"python train.py --output_dir out{flags}", {"train.py": text})


@pytest.mark.parametrize(
    ("kind", "optimizer"), [("tune", "adafactor"), ("compare", "sgd"), ("rank", "adafactor")]
)
def test_a_class_that_is_picked_of_a_table_says_its_defaults(kind, optimizer, tmp_path):
    plan = read(tmp_path, f"Classes.of('{kind}')")

    assert (plan.optimizer, plan.seq_len) == (optimizer, 512)
    assert not opens(plan) & {"optimizer", "seq_len"}


@pytest.mark.parametrize("length", ["max_length", "max_seq_length", "max_seq_len"])
def test_rows_are_as_long_as_the_script_cuts_them_whatever_has_a_lengths_name(length, tmp_path):
    """`max_length` of a class of one's own is no argument of the Trainer's: nothing reads it here."""
    assert read(tmp_path, "Classes.of('compare')", "", length).seq_len == 1024
    assert read(tmp_path, "Classes.of('compare')", length=length).seq_len == 512


def test_what_one_of_several_classes_says_is_not_said_where_nobody_knows_which(tmp_path):
    plan = read(tmp_path, "Classes.of(read())")

    assert plan.seq_len == 512
    assert "optimizer" in opens(plan)
    assert "seq_len" not in opens(plan)


def test_a_flag_is_said_whichever_class_has_it(tmp_path):
    plan = read(tmp_path, "Classes.of(read())", " --optim adamw_torch --block_size 640")

    assert (plan.optimizer, plan.seq_len) == ("adamw_torch", 640)
    assert "optimizer" not in opens(plan)
