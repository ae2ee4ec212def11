"""A function that nothing which runs speaks of is none of the launch: helpers for inference in an imported file."""

from __future__ import annotations

import pytest

from preflight.launch import LaunchCommand
from preflight.plugins import load_plugins

HELPERS = """\
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, BitsAndBytesConfig


def template(name):
    return name


def load_for_chat(path, bits):
    packed = BitsAndBytesConfig(load_in_4bit=bits == 4)
    return AutoModelForCausalLM.from_pretrained(path, quantization_config=packed, dtype=torch.float16)


def adapted(model):
    return LoraConfig(r=int(model), target_modules=["q_proj"])


class Chat:
    def __init__(self):
        self.model = load_for_chat("x", 4)


if __name__ == "__main__":
    load_for_chat("y", 8)
"""
TRAIN = """\
import transformers
from helpers import {names}

parser = transformers.HfArgumentParser(transformers.TrainingArguments)
(args,) = parser.parse_args_into_dataclasses()
model = transformers.AutoModelForCausalLM.from_pretrained("gpt2")
{uses}
transformers.Trainer(model, args).train()
"""


def read(tmp_path, names, uses):
    (tmp_path / "helpers.py").write_text(HELPERS)
    (tmp_path / "train.py").write_text(TRAIN.format(names=names, uses=uses))
    argv = ("torchrun", "--nproc-per-node", "2", "train.py")
    command = LaunchCommand(argv, {}, str(tmp_path))
    return load_plugins().first("preflight_read_launch", command=command)


def said(plan):
    return sorted(notice.message for notice in plan.notices if notice.id == "PF121")


@pytest.mark.parametrize("uses", ["template('a')", "", "for x in []: template(x)"])
def test_what_nothing_names_sets_nothing(tmp_path, uses):
    plan = read(tmp_path, "template", uses)

    assert plan.base_quantization is None and plan.adapter is None
    assert said(plan) == []


@pytest.mark.parametrize(
    ("names", "uses"),
    [
        ("load_for_chat", "model = load_for_chat('gpt2', args.seed)"),
        ("load_for_chat", "loaders = [load_for_chat]"),
        ("Chat", "Chat()"),
        ("Chat", "class Mine(Chat):\n    pass\n\nMine()"),
    ],
)
def test_what_something_names_may_run(tmp_path, names, uses):
    plan = read(tmp_path, names, uses)

    assert plan.base_quantization is not None or any(
        "base_quantization" in message for message in said(plan)
    )


def test_a_function_that_a_decorator_registers_may_run(tmp_path):
    script = TRAIN.format(names="template", uses="@registry.add\ndef pack():\n    return BnB\n")
    script = script.replace("return BnB", "return transformers.BitsAndBytesConfig(load_in_4bit=x)")
    (tmp_path / "helpers.py").write_text(HELPERS)
    (tmp_path / "train.py").write_text(script)
    command = LaunchCommand(("python", "train.py"), {}, str(tmp_path))
    plan = load_plugins().first("preflight_read_launch", command=command)

    assert any("base_quantization" in message for message in said(plan))


OF_CLASSES = """\
from torch.utils.data import Dataset
from transformers import AutoModelForCausalLM, BitsAndBytesConfig


class Kind{bases}:
    def load(self, path):
        packed = BitsAndBytesConfig(load_in_4bit=True)
        return AutoModelForCausalLM.from_pretrained(path, quantization_config=packed)

    def template(self, path):
        return path

    {more}


KINDS = []


def register(kind):
    KINDS.append(kind())


register(Kind)


def template_of(path):
    {asks}
    return KINDS[0].template(path)
"""
OF_KINDS = """\
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from kinds import template_of

told = TrainingArguments(output_dir="o", per_device_train_batch_size=template_of(2), bf16=True)
model = AutoModelForCausalLM.from_pretrained("gpt2")
Trainer(model=model, args=told, train_dataset=rows).train()
"""


def is_packed(folder, bases="", more="pass", asks="pass", train=OF_KINDS) -> bool:
    """Tell whether the quantization of a method is taken for one that the launch may have."""
    (folder / "kinds.py").write_text(OF_CLASSES.format(bases=bases, more=more, asks=asks))
    (folder / "train.py").write_text(train)
    command = LaunchCommand(("torchrun", "--nproc_per_node", "2", "train.py"), {}, str(folder))
    plan = load_plugins().first("preflight_read_launch", command=command)
    return plan.base_quantization is not None or "base_quantization" in plan.script_facts.unread


@pytest.mark.parametrize("bases", ["", "(object)"])
def test_a_method_that_nothing_names_runs_with_no_class_that_does(tmp_path, bases):
    assert not is_packed(tmp_path, bases)


@pytest.mark.parametrize(
    "ways",
    [
        {"bases": "(Dataset)"},
        {"bases": "(Elsewhere)"},
        {"more": "__call__ = lambda self: self.load(3)"},
        {"more": "def __len__(self):\n        return self.load(3)"},
        {"asks": "getattr(KINDS[0], path)(path)"},
        {"asks": "KINDS[0].load(path)"},
    ],
    ids=[
        "a library's base",
        "an unknown base",
        "called",
        "by Python",
        "by any name",
        "by its name",
    ],
)
def test_a_method_that_something_may_call_runs(tmp_path, ways):
    assert is_packed(tmp_path, **ways)
