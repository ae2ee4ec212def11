"""What a dataclass that a script makes holds in its fields is what the calls that make it say, where they agree."""

from __future__ import annotations

import pytest
from launch_of_script import opens, plan_of

CLASS = """\
@dataclass
class Joining:
    tokenizer: object
    question: int
    answer: int = 512

    def __call__(self, rows):
        asked = self.tokenizer([r["q"] for r in rows], max_length=self.question, truncation=True)
        told = self.tokenizer([r["a"] for r in rows], max_length=self.answer, truncation=True)
        ids = [torch.tensor(q + a) for q, a in zip(asked["input_ids"], told["input_ids"])]
        return {"input_ids": pad_sequence(ids, batch_first=True)}
"""
SCRIPT = """\
import argparse
import dataclasses
from dataclasses import dataclass
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments
{more}
parser = argparse.ArgumentParser()
parser.add_argument("--question", type=int, default=128)
args = parser.parse_args()
model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-7b-hf", torch_dtype=torch.bfloat16)
tokenizer = AutoTokenizer.from_pretrained("meta-llama/Llama-2-7b-hf")
{made}
Trainer(model=model, args=TrainingArguments(output_dir="out"), train_dataset=rows, data_collator=collate).train()
"""
MADE = "collate = Joining(tokenizer=tokenizer, question=args.question)"


def length(tmp_path, made, more=CLASS, flags=""):
    plan = plan_of(tmp_path, f"python train.py{flags}", {"train.py": SCRIPT.format(more=more, made=made)})  # fmt: skip
    return None if "seq_len" in opens(plan) else plan.seq_len


def test_a_row_is_as_long_as_the_fields_say(tmp_path):
    assert length(tmp_path, MADE) == 640
    assert length(tmp_path, MADE, flags=" --question 1536") == 2048


@pytest.mark.parametrize(
    "made",
    [
        "collate = Joining(tokenizer, args.question)",
        "def make(told):\n    return Joining(tokenizer, question=told.question, answer=512)\ncollate = make(args)",
        f"{MADE}\nother = Joining(tokenizer, 128, answer=512)",
    ],
)
def test_places_functions_and_calls_that_agree(made, tmp_path):
    assert length(tmp_path, made) == 640


@pytest.mark.parametrize(
    "made",
    [
        f"{MADE}\nother = Joining(tokenizer, 256)",
        "collate = Joining(tokenizer, **read('lengths.json'))",
        "collate = Joining(*read('lengths.json'))",
        "collate = Joining(tokenizer, question=len(rows[0]))",
        f"{MADE}\ncollate.answer = 2048",
    ],
)
def test_objects_that_may_hold_something_else_say_nothing(made, tmp_path):
    assert length(tmp_path, made) is None


@pytest.mark.parametrize(
    "more",
    [
        CLASS.replace("    def __call__", "    def __post_init__(self):\n        self.question *= 2\n    def __call__"),
        CLASS.replace("    def __call__", "    def __init__(self, *a, **k):\n        self.question = 7\n    def __call__"),
        CLASS.replace("@dataclass\n", "@dataclass\n@registered\n"),
        CLASS + "@dataclass\nclass Longer(Joining):\n    answer: int = 4096\nlonger = Longer(None, 1)\n",
    ],
    ids=["set in a method", "a constructor of its own", "another decorator", "a class that stands on it"],
)  # fmt: skip
def test_classes_that_say_more_than_their_fields_say_nothing(more, tmp_path):
    assert length(tmp_path, MADE, more) is None


def test_fields_of_a_class_above_come_first(tmp_path):
    above = "@dataclass\nclass Above:\n    tokenizer: object\n    question: int\n"
    own = CLASS.replace("Joining", "Joining(Above)").replace("    tokenizer: object\n    question: int\n", "")  # fmt: skip

    assert length(tmp_path, "collate = Joining(tokenizer, args.question, 256)", above + own) == 384


def test_fields_behind_those_of_a_library_have_no_place(tmp_path):
    own = CLASS.replace("class Joining", "class Joining(DataCollatorMixin)")

    assert length(tmp_path, "collate = Joining(tokenizer, args.question)", own) is None
    assert length(tmp_path, MADE, own) == 640


OWN = """\
from transformers import HfArgumentParser

@dataclass
class Own:
    longest: int = 768

class Data:
    def __init__(self, own):
        self.own = {kept}
    def encode(self, row):
        return tokenizer(row["text"], max_length=self.own{asked}, truncation=True)

own, = HfArgumentParser(Own).parse_args_into_dataclasses()
"""


@pytest.mark.parametrize(
    ("kept", "asked"),
    [
        ("own", ".longest"),
        ("vars(own)", "['longest']"),
        ("dataclasses.asdict(own)", "['longest']"),
    ],
)
def test_an_object_as_a_dict_holds_what_the_object_does(kept, asked, tmp_path):
    """What a loop asked of `asdict(args)` was not known: its batch, its length, its optimizer."""
    rows = "collate = None\nrows = rows.map(Data(own).encode)"
    more = OWN.format(kept=kept, asked=asked)
    text = SCRIPT.format(more=more, made=rows).replace("args = parser.parse_args()\n", "")
    plan = plan_of(tmp_path, "python train.py --longest 1024", {"train.py": text})

    assert plan.seq_len == 1024 and "seq_len" not in opens(plan)
