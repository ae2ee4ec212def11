"""A module of a script's own that scores what AutoModel returns is read as what it is, and anything else is named."""

from __future__ import annotations

import ast

import pytest

from preflight.launch import LaunchCommand
from preflight.pipeline import check_launch
from preflight.plugins import load_plugins
from preflight.request import Request
from preflight.scripts.uncounted.scoring_models import scoring_model
from preflight.verdict import Answer

MODULE = """\
class Scores(nn.Module):
    def __init__(self, base, tokenizer):
        super().__init__()
        self.config = base.config
        if hasattr(self.config, "word_embed_proj_dim"):
            self.head = nn.Linear(self.config.word_embed_proj_dim, 1, bias=False)
        else:
            self.head = nn.Linear(self.config.hidden_size, 1, bias=False)
        self.inner = base
        self.pad = tokenizer.pad_token_id

    def gradient_checkpointing_enable(self):
        self.inner.gradient_checkpointing_enable()

    def forward(self, input_ids=None, attention_mask=None):
        outputs = self.inner(input_ids, attention_mask=attention_mask)
        hidden_states = outputs[0]
        rewards = self.head(hidden_states).squeeze(-1)
        half = input_ids.shape[0] // 2
        loss = 0.0
        for chosen, rejected in zip(rewards[:half], rewards[half:]):
            loss += -logsigmoid(chosen - rejected).mean()
        return {"loss": loss / half}


def make(name, tokenizer):
    reward_model = load(AutoModel, name, tokenizer)
    reward_model = Scores(reward_model, tokenizer)
    return reward_model
"""
OTHERS = {
    "another module": ("self.inner = base", "self.inner = base\n        self.gate = nn.Linear(8, 8)"),
    "labels": ("hidden_size, 1, bias", "hidden_size, 9, bias"),
    "a part of the model": ("self.inner = base", "self.inner = base.model"),
    "a second forward": ("half = ", "other = self.inner(input_ids)[0]\n        half = "),
    "hidden states in a loss": ("half = ", "extra = hidden_states.float()\n        half = "),
    "outputs that are kept": ("hidden_states = outputs[0]", "hidden_states = outputs[0]\n        self.kept = outputs"),
    "logits": ("load(AutoModel,", "load(AutoModelForCausalLM,"),
    "rows of one text": ("input_ids.shape[0] // 2", "1"),
    "a model from elsewhere": ("reward_model = load(AutoModel, name, tokenizer)", "reward_model = found(name)"),
}  # fmt: skip


def read(text):
    return scoring_model([("train.py", ast.parse(text))], ["Scores"])


def test_a_head_on_hidden_states_scores_pairs():
    found = read(MODULE)

    assert found is not None and found.name == "Scores"
    assert read(MODULE.replace("outputs[0]", "outputs.last_hidden_state")) is not None


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_what_keeps_anything_else_is_not_read(change):
    before, after = change
    text = MODULE.replace(before, after)

    assert text != MODULE
    assert read(text) is None


LOOP = """\
import argparse

import deepspeed
from torch import nn
from torch.nn.functional import logsigmoid
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

parser = argparse.ArgumentParser()
parser.add_argument("--model_name_or_path")
parser.add_argument("--per_device_train_batch_size", type=int)
parser.add_argument("--max_seq_len", type=int)
args = parser.parse_args()


def load(model_class, name, tokenizer):
    return model_class.from_pretrained(name)


{module}

tokenizer = AutoTokenizer.from_pretrained(args.model_name_or_path)
dataset = rows(tokenizer, max_length=args.max_seq_len)
model = make(args.model_name_or_path, tokenizer)
model, _, _, _ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config="ds.json")
for batch in DataLoader(dataset, batch_size=args.per_device_train_batch_size):
    loss = model(**batch)["loss"]
    model.backward(loss)
    model.step()
"""


def check(folder, text):
    (folder / "ds.json").write_text(
        '{"zero_optimization": {"stage": 2}, "fp16": {"enabled": true}}'
    )
    (folder / "train.py").write_text(text)
    words = "deepspeed --num_gpus 8 train.py --model_name_or_path gpt2 --max_seq_len 512"
    argv = (*words.split(), "--per_device_train_batch_size", "4")
    command = LaunchCommand(argv, {}, str(folder))
    return check_launch(command, load_plugins(), Request("h100-sxm-80"))


def test_a_loop_that_trains_one_is_priced_as_pairs_of_scores(tmp_path):
    report = check(tmp_path, LOOP.format(module=MODULE))

    assert report.plan.objective == "scored_pairs"
    assert report.verdict.answer is Answer.FITS and report.verdict.unpriced == ()


def test_one_that_keeps_more_is_named(tmp_path):
    before, after = OTHERS["another module"]
    report = check(tmp_path, LOOP.format(module=MODULE.replace(before, after)))

    assert report.plan.objective is None
    assert "what Scores makes of the model" in report.verdict.unpriced
