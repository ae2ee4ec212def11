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


PAIRS = """\
from dataclasses import dataclass
from transformers import AutoModelForCausalLM, AutoTokenizer, HfArgumentParser, Trainer, TrainingArguments

@dataclass
class Arguments(TrainingArguments):
    max_length: int = None
    max_prompt_length: int = None

class PairTrainer(Trainer):
    def __init__(self, args, tokenizer, train_dataset, model):
        self.max_length = args.max_length
        self.max_prompt_length = args.max_prompt_length
        self.tokenizer = tokenizer
        super().__init__(model=model, args=args, train_dataset=train_dataset.map(self.encode))

    def encode(self, row):
        {condition}:
            prompt, answer = self.tokenizer(row["prompt"]), self.tokenizer(row["chosen"])
            if len(prompt) + len(answer) > self.max_length:
                answer = answer[: self.max_length - self.max_prompt_length]
            return prompt[-self.max_prompt_length :] + answer
        {other}:
            return self.tokenizer(row["prompt"], truncation=True, max_length=self.max_prompt_length)

args, = HfArgumentParser(Arguments).parse_args_into_dataclasses()
tokenizer = AutoTokenizer.from_pretrained("gpt2")
model = AutoModelForCausalLM.from_pretrained("gpt2")
PairTrainer(args=args, tokenizer=tokenizer, train_dataset=rows, model=model).train()
"""


@pytest.mark.parametrize(
    ("condition", "other"),
    [
        ("if not self.is_encoder_decoder", "else"),
        ("if not model.config.is_encoder_decoder", "else"),
        ("if not self.is_encoder_decoder", "if self.is_encoder_decoder"),
    ],
)
def test_what_a_model_with_an_encoder_alone_would_be_asked_is_no_length(tmp_path, condition, other):
    text = PAIRS.format(condition=condition, other=other)
    words = "python train.py --output_dir out --max_length 1024 --max_prompt_length 384"

    assert plan_of(tmp_path, words, {"train.py": text}).seq_len == 1024
