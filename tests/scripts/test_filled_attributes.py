"""An argument that a script sets only where nothing was given is what was given."""

from __future__ import annotations

import pytest
from launch_of_script import opens, plan_of

from preflight.scripts.settings.vocabulary import OTHER_VOCABULARY

SCRIPT = """\
import argparse
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments
parser = argparse.ArgumentParser()
parser.add_argument("--tokenizer", default=None)
parser.add_argument("--length", type=int, default=None)
args = parser.parse_args()
def main():
    {filled}
    model = AutoModelForCausalLM.from_pretrained("gpt2", torch_dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer)
    model.resize_token_embeddings(len(tokenizer))
    data = rows.map(lambda row: tokenizer(row["text"], truncation=True, max_length=args.length))
    Trainer(model=model, args=TrainingArguments(output_dir="out"), train_dataset=data).train()
main()
"""
NAME = "if args.tokenizer is None: args.tokenizer = 'gpt2'"
FILLING = [
    "if args.length is None: args.length = 512",
    "if not args.length: args.length = 512",
    "if args.length == None: args.length = 512",
    "if args.length is None and args.tokenizer: args.length = 512",
    "args.length = args.length or 512",
    "args.length = 512 if args.length is None else args.length",
    "args.length = args.length if args.length is not None else 512",
    "args.length = args.length if args.length else 512",
    "if args.length is None:\n        with open('log') as log:\n            args.length = len(log.read())",
]


def read(tmp_path, *filled, flags=""):
    text = SCRIPT.format(filled="\n    ".join((NAME, *filled)))
    return plan_of(tmp_path, f"python train.py{flags}", {"train.py": text})


@pytest.mark.parametrize("filled", FILLING)
def test_what_is_given_stays(filled, tmp_path):
    assert read(tmp_path, filled, flags=" --tokenizer gpt2 --length 768").seq_len == 768


@pytest.mark.parametrize("filled", [each for each in FILLING if "open" not in each])
def test_what_is_not_given_is_what_fills_it(filled, tmp_path):
    assert read(tmp_path, filled).seq_len == 512


@pytest.mark.parametrize(
    "filled",
    [
        "if args.length is not None: args.length = 2048",
        "if args.length is None or args.tokenizer: args.length = 2048",
        "if args.length is None: args.length = 512\n    else: args.length = 2048",
        "if args.length is None: args.length = 512\n    if read(): args.length = 2048",
        "args.length = args.length and 2048",
        "args.length = args.length * 2 if args.length else 512",
        "args.length = 2048 if args.length else args.length",
        "if args.length is None: pass\n    for args.length in read(): pass",
    ],
)
def test_what_may_be_set_to_something_else_is_not_what_was_given(filled, tmp_path):
    plan = read(tmp_path, filled, flags=" --length 768")

    assert plan.seq_len != 768 or "seq_len" in opens(plan)


def test_the_words_of_a_tokenizer_that_is_given_are_those_of_another_one(tmp_path):
    assert OTHER_VOCABULARY not in read(tmp_path).script_facts.uncounted
    named = read(tmp_path, flags=" --tokenizer own/words").script_facts.uncounted
    assert OTHER_VOCABULARY in named


UNFOLLOWED = """\
import argparse
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments
parser = argparse.ArgumentParser()
parser.add_argument("--model", default="gpt2")
parser.add_argument("--tokenizer_name", default=None)
args = parser.parse_args()
def words_of(name):
    return AutoTokenizer.from_pretrained(names[name] if name in names else name)
tokenizer = words_of(args.tokenizer_name or args.model)
model = AutoModelForCausalLM.from_pretrained(args.model, torch_dtype=torch.bfloat16)
model.resize_token_embeddings(len(tokenizer))
data = rows.map(lambda row: tokenizer(row["text"], truncation=True, max_length=256))
Trainer(model=model, args=TrainingArguments(output_dir="out"), train_dataset=data).train()
"""


@pytest.mark.parametrize(
    ("flags", "is_named"),
    [
        ("", False),
        (" --tokenizer_name gpt2", False),
        (" --model openai-community/gpt2 --tokenizer_name gpt2", False),
        (" --tokenizer_name own/words", True),
    ],
)
def test_a_tokenizer_that_a_flag_names_counts_where_its_loading_is_not_followed(
    flags, is_named, tmp_path
):
    plan = plan_of(tmp_path, f"python train.py{flags}", {"train.py": UNFOLLOWED})

    assert (OTHER_VOCABULARY in plan.script_facts.uncounted) == is_named
