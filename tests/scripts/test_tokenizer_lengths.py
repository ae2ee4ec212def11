"""Rows are as long as the tokenizer that cuts them was loaded with, where its call says no other length."""

from __future__ import annotations

import pytest
from launch_of_script import plan_of

SCRIPT = """\
import argparse
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments
parser = argparse.ArgumentParser()
parser.add_argument("--window", type=int, default=96)
parser.add_argument("--fast", action="store_true")
args = parser.parse_args()
{load}
class Rows:
    def __init__(self, texts, tokenizer):
        self.texts, self.tokenizer = texts, tokenizer
    def __getitem__(self, index):
        return self.tokenizer(self.texts[index], {cut})
model = AutoModelForCausalLM.from_pretrained("gpt2")
arguments = TrainingArguments("o", per_device_train_batch_size=2)
Trainer(model=model, args=arguments, train_dataset=Rows(texts, tokenizer)).train()
"""
LOAD = 'tokenizer = AutoTokenizer.from_pretrained("gpt2", model_max_length=args.window)'
BRANCHES = """\
if args.fast:
    tokenizer = AutoTokenizer.from_pretrained("gpt2", model_max_length=args.window)
else:
    tokenizer = AutoTokenizer.from_pretrained("gpt2", use_fast=False, model_max_length={other})
"""
OWN = "truncation=True, max_length=self.tokenizer.model_max_length"


@pytest.mark.parametrize(
    ("load", "cut", "words", "length"),
    [
        (LOAD, OWN, "", 96),
        (LOAD, OWN, "--window 64", 64),
        (LOAD, "truncation=True", "", 96),
        (LOAD, "truncation=True, max_length=48", "", 48),
        (LOAD, "max_length=self.tokenizer.model_max_length", "", None),
        (LOAD.replace(", model_max_length=args.window", ""), OWN, "", None),
        (BRANCHES.format(other="args.window"), OWN, "", 96),
        (BRANCHES.format(other="32"), OWN, "", 32),
        (BRANCHES.format(other="32").replace("args.fast", "FAST"), OWN, "", None),
        (LOAD + '\njudge = AutoTokenizer.from_pretrained("gpt2")', OWN, "", None),
        (LOAD + "\ntokenizer.model_max_length = 24", OWN, "", 24),
    ],
)
def test_a_row_is_cut_where_its_tokenizer_is(load, cut, words, length, tmp_path):
    files = {"train.py": SCRIPT.format(load=load, cut=cut)}

    assert plan_of(tmp_path, f"python train.py {words}", files).seq_len == length


@pytest.mark.parametrize(
    ("counted", "length"),
    [
        ("self.tokenizer(text, max_length=48, truncation=True).input_ids.ne(0).sum().item()", 96),
        ("(self.tokenizer(text, max_length=48, truncation=True)['input_ids'] != 0).sum()", 96),
        ("len(self.tokenizer(text, max_length=48, truncation=True).input_ids)", 96),
        ("self.tokenizer(text, max_length=48, truncation=True).input_ids.ne(0)", None),
    ],
)
def test_a_call_whose_tokens_are_only_counted_makes_no_row(counted, length, tmp_path):
    text = SCRIPT.format(load=LOAD, cut="truncation=True, max_length=args.window")
    before = "        return self.tokenizer("
    text = text.replace(
        before, f"        text = self.texts[index]\n        cut = {counted}\n{before}"
    )

    assert plan_of(tmp_path, "python train.py", {"train.py": text}).seq_len == length


def test_a_tokenizer_cuts_at_the_length_that_it_was_loaded_with(tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.models.WordLevel({"[UNK]": 0, "word": 1}, unk_token="[UNK]")
    made = tokenizers.Tokenizer(words)
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=made).save_pretrained(tmp_path)
    load = transformers.PreTrainedTokenizerFast.from_pretrained

    tokenizer = load(tmp_path, model_max_length=5)
    text = "word " * 9
    assert len(tokenizer(text, truncation=True)["input_ids"]) == 5
    cut = tokenizer(text, truncation=True, max_length=tokenizer.model_max_length)
    assert len(cut["input_ids"]) == 5
    assert len(tokenizer(text, max_length=5)["input_ids"]) in (5, 9)  # a release may cut then, too
    assert len(load(tmp_path)(text, truncation=True)["input_ids"]) == 9


JOINED = """\
    def __getitem__(self, index):
        prompt = self.tokenizer(self.prompts[index], {cut})["input_ids"]
        answer = self.tokenizer(self.answers[index], {cut})["input_ids"]
        return {{"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer}}
"""
WHOLE = """\
    def __getitem__(self, index):
        prompt = self.tokenizer(self.prompts[index], {cut})["input_ids"]
        row = self.tokenizer(self.prompts[index] + self.answers[index], {cut})["input_ids"]
        output_ids = self.tokenizer(self.answers[index], {cut})["input_ids"]
        return {{"input_ids": row, "labels": [-100] * len(prompt) + row[len(prompt):], "output": output_ids}}
"""


@pytest.mark.parametrize("cut", [OWN, "truncation=True"])
@pytest.mark.parametrize(("rows", "length"), [(JOINED, 192), (WHOLE, 96)])
def test_answers_are_cut_where_their_tokenizer_is(rows, length, cut, tmp_path):
    start, _, rest = SCRIPT.partition("    def __getitem__")
    rest = rest[rest.index("model = ") :]
    text = start.format(load=LOAD) + rows.format(cut=cut) + rest

    assert plan_of(tmp_path, "python train.py", {"train.py": text}).seq_len == length
