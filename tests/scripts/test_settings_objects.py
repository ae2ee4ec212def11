"""Settings that a script fills by a library of the command line, by keywords that it hands on, or behind a package."""

from __future__ import annotations

import pytest
from launch_of_script import opens, plan_of

LOOP = """\
def train(settings):
    model = AutoModelForCausalLM.from_pretrained(settings.name, torch_dtype=torch.bfloat16)
    rows = load_dataset("x").map(lambda row: tokenizer(row, truncation=True, max_length=settings.length))
    for batch in DataLoader(rows, batch_size=settings.rows):
        model(**batch).loss.backward()
"""
CLASS = """\
from dataclasses import dataclass


@dataclass
class settings_of_run:
    name: str = "gpt2"
    rows: int = 3
    length: int = 256
"""
KEYWORDS = f"""\
from settings import settings_of_run as SETTINGS

{LOOP}

def update(config, **kwargs):
    for name, value in kwargs.items():
        setattr(config, name, value)


def main(**kwargs):
    config = SETTINGS()
    update(config, **kwargs)
    train(config)


if __name__ == "__main__":
    fire.Fire(main)
"""
OF_CLASS = f"""\
import tyro
from settings import settings_of_run

{LOOP}
train(tyro.cli(settings_of_run))
"""
OF_FUNCTION = f"""\
from types import SimpleNamespace

from fastcore.script import call_parse

{LOOP}

@call_parse
def main(
    name: str = "gpt2",  # which model
    rows: int = 3,
    length: int = 256,
):
    train(SimpleNamespace(**{{"name": name, "rows": rows, "length": length}}))
"""
OF_FILE = f"""\
from omegaconf import OmegaConf

{LOOP}
train(OmegaConf.load("run.yaml"))
"""
RUN = "name: gpt2\nrows: 5\nlength: 512\n"


@pytest.mark.parametrize("script", [KEYWORDS, OF_CLASS, OF_FUNCTION], ids=["fire", "tyro", "call"])
def test_flags_reach_the_object_that_they_fill(script, tmp_path):
    files = {"train.py": script, "settings.py": CLASS}
    plain = plan_of(tmp_path, "torchrun --nproc_per_node 1 train.py", files)
    told = plan_of(tmp_path, "torchrun --nproc_per_node 1 train.py --rows 5 --length 512", files)

    assert (plain.model, plain.micro_batch_size, plain.seq_len) == ("gpt2", 3, 256)
    assert (told.model, told.micro_batch_size, told.seq_len) == ("gpt2", 5, 512)


def test_a_flag_may_name_the_class_that_it_is_for(tmp_path):
    files = {"train.py": KEYWORDS, "settings.py": CLASS}
    plan = plan_of(tmp_path, "torchrun train.py --settings_of_run.rows 7", files)

    assert plan.micro_batch_size == 7


def test_a_file_that_the_script_loads_says_its_lines(tmp_path):
    plan = plan_of(tmp_path, "torchrun train.py", {"train.py": OF_FILE, "run.yaml": RUN})

    assert (plan.model, plan.micro_batch_size, plan.seq_len) == ("gpt2", 5, 512)
    assert plan.origins["seq_len"].where == "run.yaml:3"


def test_a_file_that_is_not_there_says_nothing(tmp_path):
    plan = plan_of(tmp_path, "torchrun train.py", {"train.py": OF_FILE})

    assert (plan.model, plan.micro_batch_size, plan.seq_len) == (None, None, None)


PACKAGE = {
    "pkg/__init__.py": "from . import core\nfrom .core.loading import get_model\n",
    "pkg/core/__init__.py": "from .arguments import *\n",
    "pkg/core/arguments.py": """\
from dataclasses import dataclass

import transformers


@dataclass
class TrainingArguments(transformers.TrainingArguments):
    bf16: bool = True
    per_device_train_batch_size: int = 6
    adapts: bool = False
""",
    "pkg/core/own.py": """\
from dataclasses import dataclass

from pkg.core.arguments import TrainingArguments


@dataclass
class OwnArguments(TrainingArguments):
    gradient_accumulation_steps: int = 5
""",
    "pkg/core/loading.py": """\
import torch
from transformers import AutoModelForCausalLM


def get_model(name, args):
    model = AutoModelForCausalLM.from_pretrained(name, torch_dtype=torch.float16)
    if not args.adapts:
        return model
    return get_peft_model(model, LoraConfig(r=4))
""",
    "train.py": """\
from dataclasses import dataclass

import pkg
import transformers
from transformers import HfArgumentParser, Trainer


@dataclass
class TrainingArguments(pkg.core.own.OwnArguments):
    optim: str = "sgd"


parser = HfArgumentParser((TrainingArguments,))
(args,) = parser.parse_args_into_dataclasses()
model = pkg.get_model("gpt2", args)
Trainer(model=model, args=args).train()
""",
}


@pytest.mark.parametrize("flags", ["", "--adapts true"])
def test_what_a_package_passes_on_is_read_where_it_is_defined(flags, tmp_path):
    plan = plan_of(tmp_path, f"torchrun train.py --output_dir out {flags}", PACKAGE)
    said = (plan.model, plan.load_dtype, plan.mixed_precision, plan.optimizer)

    assert said == ("gpt2", "fp16", "bf16", "sgd")
    assert (plan.micro_batch_size, plan.gradient_accumulation_steps) == (6, 5)
    assert (plan.adapter is not None) == bool(flags)
    assert not opens(plan) & {"adapter", "load_dtype"}


def test_a_package_that_the_repository_installs_is_found_above_the_launch(tmp_path):
    files = {
        "pyproject.toml": "[project]\nname = 'pkg'\n",
        "src/pkg/train.py": OF_CLASS.replace("from settings", "from pkg.settings"),
        "src/pkg/settings.py": CLASS,
        "runs/here/start.py": "import pkg.train\nfrom pkg.train import train\n",
        "runs/here/go.py": "from pkg.settings import settings_of_run\nimport tyro\n"
        f"{LOOP}\ntrain(tyro.cli(settings_of_run))\n",
    }
    plan_of(tmp_path, "torchrun runs/here/go.py", files)
    plan = plan_of(tmp_path / "runs" / "here", "torchrun go.py --rows 9", {})

    assert (plan.model, plan.micro_batch_size) == ("gpt2", 9)


TRAIN = """\
import argparse, tomllib, yaml
import torch
from dataclasses import dataclass
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

def train(name, length, rows=1):
    model = AutoModelForCausalLM.from_pretrained(name, torch_dtype=torch.bfloat16)
    data = load().map(lambda row: tokenizer(row["text"], truncation=True, max_length=length))
    args = TrainingArguments(output_dir="out", per_device_train_batch_size=rows, bf16=True)
    Trainer(model=model, args=args, train_dataset=data).train()

"""
PARSER = """\
parser = argparse.ArgumentParser()
parser.add_argument("--config", default="run.yaml")
parser.add_argument("--name", default="other")
parser.add_argument("--length", type=int, default=128)
parser.add_argument("--rows", type=int, default=1)
"""
YAML, TOML = "name: gpt2\nlength: 256\nrows: 4\n", 'name = "gpt2"\n[data]\nlength = 256\nrows = 4\n'
WAYS = {
    "a file's keys as keywords": (
        PARSER + "train(**yaml.safe_load(open(parser.parse_args().config)))\n", ""),
    "a file's keys as defaults": (
        PARSER + "known, _ = parser.parse_known_args()\n"
        "parser.set_defaults(**yaml.safe_load(open(known.config)))\n"
        "args = parser.parse_args()\ntrain(args.name, args.length, args.rows)\n", ""),
    "flags over a file's keys": (
        PARSER + "known, _ = parser.parse_known_args()\n"
        "parser.set_defaults(**yaml.safe_load(open(known.config)))\n"
        "args = parser.parse_args()\ntrain(args.name, args.length, args.rows)\n",
        "--config one.yaml --rows 4"),
    "TOML": (
        "with open('run.toml', 'rb') as file:\n    run = tomllib.load(file)\n"
        "train(run['name'], **run['data'])\n", ""),
    "a class of a wrapped function": (
        "import draccus\n@dataclass\nclass Run:\n    name: str = 'gpt2'\n    length: int = 256\n    rows: int = 1\n"
        "@draccus.wrap()\ndef main(run: Run):\n    train(run.name, run.length, run.rows)\nmain()\n", "--rows 4"),
    "a function's own parameters": (
        "from jsonargparse import CLI\nCLI(train)\n", "gpt2 256 --rows 4"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "words"), WAYS.values(), ids=WAYS)
def test_settings_of_files_and_functions_reach_what_trains(text, words, tmp_path):
    files = {"train.py": TRAIN + text, "run.yaml": YAML, "run.toml": TOML}
    files["one.yaml"] = YAML.replace("rows: 4", "rows: 2")
    plan = plan_of(tmp_path, f"torchrun --nproc_per_node 2 train.py {words}", files)

    assert (plan.model, plan.seq_len, plan.micro_batch_size) == ("gpt2", 256, 4)
    assert not {"model", "seq_len", "micro_batch_size"} & opens(plan)


def test_keywords_of_a_file_that_is_not_here_are_open(tmp_path):
    text = WAYS["a file's keys as keywords"][0]
    plan = plan_of(tmp_path, "torchrun --nproc_per_node 2 train.py", {"train.py": TRAIN + text})

    assert plan.model is None
    assert plan.micro_batch_size is None or "micro_batch_size" in opens(plan)
