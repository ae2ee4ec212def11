"""What a decoder beside an encoder answers has a length of its own, which a script cuts apart from what is read."""

from __future__ import annotations

import pytest
from launch_of_script import plan_of

SCRIPT = """\
from dataclasses import dataclass, field
from transformers import {model}, AutoTokenizer, HfArgumentParser, Seq2SeqTrainer, Seq2SeqTrainingArguments

@dataclass
class Data:
    max_source_length: int = field(default=1024)
    max_target_length: int = field(default=128)
    val_max_target_length: int = field(default=None)

data, args = HfArgumentParser((Data, Seq2SeqTrainingArguments)).parse_args_into_dataclasses()
tokenizer = AutoTokenizer.from_pretrained("google/flan-t5-base")
model = {model}.from_pretrained("google/flan-t5-base")
max_target_length = data.max_target_length

def encode(rows):
    inputs = tokenizer(rows["document"], max_length=data.max_source_length, truncation=True)
{answers}
    return inputs

rows = rows.map(encode)
if args.do_eval:
    max_target_length = data.val_max_target_length
    held = held.map(encode)
Seq2SeqTrainer(model=model, args=args, train_dataset=rows).train()
"""
SWITCHED = """\
    with tokenizer.as_target_tokenizer():
        inputs["labels"] = tokenizer(rows["b"], max_length=max_target_length, truncation=True)["input_ids"]
"""
TARGET = """\
    inputs["labels"] = tokenizer(text_target=rows["b"], max_length=max_target_length, truncation=True)["input_ids"]
"""
NAMED = """\
    targets = rows["b"]
    inputs["labels"] = tokenizer(targets, max_length=max_target_length, truncation=True)["input_ids"]
"""
UNCUT = """\
    inputs["labels"] = tokenizer(text_target=rows["b"])["input_ids"]
"""
MODEL = "AutoModelForSeq2SeqLM"


def read(tmp_path, answers: str, flags: str = "", model: str = MODEL):
    text = SCRIPT.format(answers=answers, model=model)
    return plan_of(tmp_path, f"python train.py --output_dir out {flags}", {"train.py": text})


@pytest.mark.parametrize("answers", [SWITCHED, TARGET, NAMED])
@pytest.mark.parametrize(
    ("flags", "lengths"),
    [("", (1024, 128)), ("--max_target_length 64 --max_source_length 512", (512, 64))],
)
def test_each_stack_has_the_length_at_which_its_text_is_cut(tmp_path, answers, flags, lengths):
    plan = read(tmp_path, answers, flags)

    assert (plan.seq_len, plan.target_len) == lengths


def test_an_answer_that_nothing_cuts_has_no_length(tmp_path):
    plan = read(tmp_path, UNCUT)

    assert (plan.seq_len, plan.target_len) == (1024, None)


def test_a_decoder_alone_is_given_no_length_of_the_question(tmp_path):
    """Its rows are question and answer together."""
    plan = read(tmp_path, NAMED, model="AutoModelForCausalLM")

    assert plan.seq_len is None
