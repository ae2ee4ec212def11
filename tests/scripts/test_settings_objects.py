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
OF_ITS_FILE = (
    PARSER + "parser.add_argument('--settings', {})\n"
    "args = parser.parse_args()\ntrain(args.name, args.length, args.rows)\n"
)
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
    "a parser's own file": (
        OF_ITS_FILE.format("action='config'"), "--settings run.yaml"),
    "flags over a parser's own file": (
        OF_ITS_FILE.format("action=jsonargparse.ActionConfigFile"), "--settings one.yaml --rows 4"),
    "a parser's own file by default": (
        OF_ITS_FILE.format("is_config_file=True, default='run.yaml'"), ""),
    "a model of a file's keys": (
        "from pydantic import BaseModel\nclass Run(BaseModel):\n    name: str\n    length: int = 128\n    rows: int = 1\n"
        "run = Run.model_validate(yaml.safe_load(open('run.yaml')))\ntrain(run.name, run.length, run.rows)\n", ""),
    "values that a match picks": (
        PARSER + "args = parser.parse_args()\nmatch args.name:\n"
        "    case 'small' | 'tiny':\n        name, length = 'gpt2', 256\n"
        "    case _:\n        name, length = 'gpt2-xl', 1024\n"
        "train(name, length, args.rows)\n", "--name tiny --rows 4"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "words"), WAYS.values(), ids=WAYS)
def test_settings_of_files_and_functions_reach_what_trains(text, words, tmp_path):
    files = {"train.py": TRAIN + text, "run.yaml": YAML, "run.toml": TOML}
    files["one.yaml"] = YAML.replace("rows: 4", "rows: 2")
    plan = plan_of(tmp_path, f"torchrun --nproc_per_node 2 train.py {words}", files)

    assert (plan.model, plan.seq_len, plan.micro_batch_size) == ("gpt2", 256, 4)
    assert not {"model", "seq_len", "micro_batch_size"} & opens(plan)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        WAYS["a file's keys as keywords"],
        WAYS["a parser's own file"],
        ("import gin\n@gin.configurable\ndef main(name='gpt2', rows=1):\n    train(name, 256, rows)\nmain()\n", ""),
    ],
    ids=["keywords", "a parser's", "gin's"],
)  # fmt: skip
def test_what_a_file_says_that_is_not_here_is_open(text, words, tmp_path):
    files = {"train.py": TRAIN + text}
    plan = plan_of(tmp_path, f"torchrun --nproc_per_node 2 train.py {words}", files)

    assert plan.model is None
    assert plan.micro_batch_size is None or "micro_batch_size" in opens(plan)


OF_TYPER = f"""\
import typer
from types import SimpleNamespace
from typing import Annotated

{LOOP}
app = typer.Typer()

@app.command()
def main(
    out: Annotated[str, typer.Argument(help="where to")],
    name: Annotated[str, typer.Argument()],
    rows: Annotated[int, typer.Option("-r", "--rows-of-step")] = 3,
    length: int = typer.Option(256, "--length"),
    whole: Annotated[bool, typer.Option("--whole/--part")] = True,
):
    train(SimpleNamespace(**{{"name": name, "rows": rows, "length": length if whole else 64}}))

app()
"""
OF_CLICK = f"""\
import click
from types import SimpleNamespace

{LOOP}

@click.command()
@click.argument("out")
@click.argument("model_name")
@click.option("-r", "--rows-of-step", "rows", type=int, default=3)
@click.option("--length", type=int, default=256)
@click.option("--whole/--part", default=True)
def main(out, model_name, rows, length, whole):
    train(SimpleNamespace(**{{"name": model_name, "rows": rows, "length": length if whole else 64}}))

main()
"""


@pytest.mark.parametrize("script", [OF_TYPER, OF_CLICK], ids=["typer", "click"])
@pytest.mark.parametrize(
    ("flags", "held"),
    [
        ("", (3, 256)),
        ("--rows-of-step 5 --length 512", (5, 512)),
        ("--rows-of-step=7", (7, 256)),
        ("-r 6", (6, 256)),
    ],
)
def test_words_without_a_flag_fill_what_typer_and_click_are_told(script, flags, held, tmp_path):
    command = f"torchrun --nproc_per_node 1 train.py out gpt2 {flags}"
    plan = plan_of(tmp_path, command, {"train.py": script})

    assert (plan.model, plan.micro_batch_size, plan.seq_len) == ("gpt2", *held)


CAUGHT = """\
def read(path):
    with open(path) as file:
        try:
            return yaml.safe_load(file)
        except yaml.YAMLError as error:
            print(error)

values = read("run.yaml")
"""
OF_RUAMEL = """\
from ruamel.yaml import YAML
from pathlib import Path
reader = YAML(typ="safe")
values = reader.load(Path("run.yaml"))
"""


@pytest.mark.parametrize("reading", [CAUGHT, OF_RUAMEL], ids=["caught", "ruamel"])
def test_a_file_is_read_whoever_reads_it(reading, tmp_path):
    script = f"{LOOP}\n{reading}\ntrain(SimpleNamespace(**values))\n"
    files = {"train.py": script, "run.yaml": RUN}
    plan = plan_of(tmp_path, "torchrun --nproc_per_node 1 train.py", files)

    assert (plan.model, plan.micro_batch_size, plan.seq_len) == ("gpt2", 5, 512)


def test_an_error_that_is_no_files_may_lead_to_the_end_of_a_function(tmp_path):
    picks = "def pick():\n    try:\n        import flash_attn\n        return 5\n    except ImportError:\n        pass\n"
    script = f"{LOOP}\n{picks}\ntrain(SimpleNamespace(name='gpt2', rows=pick(), length=512))\n"
    plan = plan_of(tmp_path, "torchrun --nproc_per_node 1 train.py", {"train.py": script})

    assert (plan.seq_len, plan.micro_batch_size) == (512, None)


def test_a_structured_config_has_the_words_of_the_command_line(tmp_path):
    merges = "OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(settings_of_run), OmegaConf.from_cli()))"
    script = f"from settings import settings_of_run\nfrom omegaconf import OmegaConf\n{LOOP}\ntrain({merges})\n"
    files = {"train.py": script, "settings.py": CLASS}
    plan = plan_of(tmp_path, "torchrun --nproc_per_node 1 train.py rows=5", files)

    assert (plan.model, plan.micro_batch_size, plan.seq_len) == ("gpt2", 5, 256)


PARSES = f"""\
import argparse
import yaml

{LOOP}
parser = argparse.ArgumentParser()
parser.add_argument("--file")
parser.add_argument("--name", default="gpt2")
parser.add_argument("--rows", type=int, default=3)
parser.add_argument("--length", type=int, default=256)
args = parser.parse_args()
"""
READ = "yaml.safe_load(open(args.file))"
UPDATES = {
    "vars": f"if args.file is not None:\n    vars(args).update({READ})\n",
    "dict": f"if args.file:\n    args.__dict__.update(**{READ})\n",
    "each": f"if args.file:\n    for name, value in {READ}.items():\n        setattr(args, name, value)\n",
    "function": (
        "def update(given, path):\n    if not path:\n        return\n    with open(path) as file:\n"
        "        for name, value in yaml.safe_load(file).items():\n            setattr(given, name, value)\n"
        "update(args, args.file)\n"
    ),
}


@pytest.mark.parametrize("way", UPDATES.values(), ids=UPDATES)
def test_parsed_arguments_have_what_a_script_gives_them_by_the_names_of_a_file(way, tmp_path):
    files = {"train.py": f"{PARSES}{way}train(args)\n", "run.yaml": "rows: 5\nlength: 512\n"}
    plain = plan_of(tmp_path, "torchrun --nproc_per_node 1 train.py --rows 4", files)
    told = plan_of(tmp_path, "torchrun --nproc_per_node 1 train.py --rows 4 --file run.yaml", files)

    assert (plain.model, plain.micro_batch_size, plain.seq_len) == ("gpt2", 4, 256)
    assert (told.model, told.micro_batch_size, told.seq_len) == ("gpt2", 5, 512)


@pytest.mark.parametrize(
    ("way", "held"),
    [
        (f"for k, v in {READ}.items():\n    if k in KEPT:\n        setattr(args, k, v)\n", ("gpt2", None, None)),
        ("for k, v in fetch().items():\n    setattr(args, k, v)\n", (None, None, None)),
        ("vars(args).update(fetch())\n", (None, None, None)),
        ("if fetch():\n    vars(args).update(rows=fetch())\n", ("gpt2", None, 256)),
        ("vars(other).update(fetch())\n", ("gpt2", 3, 256)),
    ],
)  # fmt: skip
def test_what_only_running_gives_parsed_arguments_is_not_known(way, held, tmp_path):
    files = {"train.py": f"{PARSES}{way}train(args)\n", "run.yaml": "rows: 5\nlength: 512\n"}
    plan = plan_of(tmp_path, "torchrun --nproc_per_node 1 train.py --file run.yaml", files)

    assert (plan.model, plan.micro_batch_size, plan.seq_len) == held
