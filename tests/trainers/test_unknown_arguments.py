"""A flag or a key that a script's parser does not have: preflight says what the real parser does with it."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

import pytest
from said_versions import named_libraries

from preflight.errors import BadInput, Problem
from preflight.launch import LaunchCommand
from preflight.trainers.arguments import read_trainer_arguments

VERSIONS = {"transformers": "5.24.0", "trl": "1.16.0", "torch": "2.13.0"}
HEAD = """\
import os, sys
from dataclasses import dataclass, field
from typing import ClassVar, Optional
import transformers
from transformers import HfArgumentParser, TrainingArguments
from trl import ModelConfig, ScriptArguments, SFTConfig, TrlParser

"""
MINE = """\
@dataclass
class Mine(ScriptArguments):
    shared: ClassVar[int] = 3
    my_own: int = 1
    inside: int = field(default=2, init=False)

"""
CONFIG = "output_dir: out\nuse_cpu: true\nmodel_name_or_path: m\n"
TRL = HEAD + MINE + "parser = TrlParser((Mine, SFTConfig, ModelConfig))\n"
OWN_CONFIG = """\
@dataclass
class SFTConfig(SFTConfig):
    benchmarks: Optional[str] = None

"""
HF = HEAD + "parser = HfArgumentParser(TrainingArguments)\n"
FILE = """\
if sys.argv[1].endswith(".json"):
    parser.parse_json_file(os.path.abspath(sys.argv[1]){extra})
else:
    parser.parse_args_into_dataclasses()
"""
FLAGS = "--output_dir out --use_cpu"

CASES: dict[str, tuple[str, str, str, dict[str, str]]] = {
    # what is tried: script, words, keys of the file beside the usual ones, what is said about them
    "a key that transformers 5 removed": (
        TRL + "parser.parse_args_and_config()\n",
        "--config c.yaml",
        "warmup_ratio: 0.03\n",
        {"warmup_ratio": "PF123"},
    ),
    "two misspelt keys": (
        TRL + "parser.parse_args_and_config()\n",
        "--config c.yaml",
        "lerning_rate: 1e-5\nmy_onw: 2\n",
        {"lerning_rate": "PF123", "my_onw": "PF123"},
    ),
    "the script's own keys": (
        TRL + "parser.parse_args_and_config()\n",
        "--config c.yaml",
        "my_own: 2\nlearning_rate: 1e-5\nenv: {A: b}\n",
        {},
    ),
    "fields that are no arguments": (
        TRL + "parser.parse_args_and_config()\n",
        "--config c.yaml",
        "shared: 2\ninside: 3\n",
        {"shared": "PF123", "inside": "PF123"},
    ),
    "a key of a dataclass that the parser lacks": (
        HEAD + "TrlParser((ScriptArguments, SFTConfig)).parse_args_and_config()\n",
        "--config c.yaml",
        "use_peft: true\n",
        {"model_name_or_path": "PF123", "use_peft": "PF123"},
    ),
    "keys that are dropped": (
        TRL + "parser.parse_args_and_config(fail_with_unknown_args=False)\n",
        "--config c.yaml",
        "warmup_ratio: 0.03\nlerning_rate: 1e-5\n",
        {"warmup_ratio": "PF122", "lerning_rate": "PF122"},
    ),
    "keys that the script gets": (
        TRL + "*_, rest = parser.parse_args_and_config(return_remaining_strings=True)\n",
        "--config c.yaml --my_onw 2",
        "warmup_ratio: 0.03\n",
        {},
    ),
    "a flag beside a dropped key": (
        TRL + "parser.parse_args_and_config(fail_with_unknown_args=False)\n",
        "--config c.yaml --lerning_rate 3",
        "my_onw: 2\n",
        {"my_onw": "PF122", "--lerning_rate": "PF123"},
    ),
    "a subclass of SFTConfig by the same name": (
        HEAD + OWN_CONFIG + "TrlParser((SFTConfig,)).parse_args_and_config()\n",
        "--config c.yaml",
        "benchmarks: a\nmax_length: 4\n",
        {"model_name_or_path": "PF123"},
    ),
    "types in a name": (
        HEAD + "types = (SFTConfig, ModelConfig)\nTrlParser(types).parse_args_and_config()\n",
        "--config c.yaml",
        "dataset_name: d\n",
        {"dataset_name": "PF123"},
    ),
    "a flag of HfArgumentParser": (
        HF + "parser.parse_args_into_dataclasses()\n",
        f"{FLAGS} --evaluation_strategy epoch",
        "",
        {"--evaluation_strategy": "PF123"},
    ),
    "a prefix, a dashed flag and a negation": (
        HF + "parser.parse_args_into_dataclasses()\n",
        f"{FLAGS} --per_device_train 2 --weight-decay 0.1 --no_dataloader_pin_memory",
        "",
        {},
    ),
    "an alias": (
        HEAD
        + "@dataclass\nclass A:\n    rate: float = field(default=1.0, metadata={'aliases': ['--lr']})\n\n"
        + "HfArgumentParser((A, TrainingArguments)).parse_args_into_dataclasses()\n",
        f"{FLAGS} --lr 3",
        "",
        {},
    ),
    "an argument that is added": (
        HF + "parser.add_argument('--tag')\nparser.parse_args_into_dataclasses()\n",
        f"{FLAGS} --tag a",
        "",
        {},
    ),
    "a parse that is tried": (
        HF + "try:\n    parser.parse_args_into_dataclasses()\nexcept ValueError:\n    pass\n",
        f"{FLAGS} --tag a",
        "",
        {},
    ),
    "a JSON file": (
        HF + FILE.format(extra=""),
        "c.json",
        "warmup_ratio: 0.03\n",
        {"model_name_or_path": "PF123", "warmup_ratio": "PF123"},
    ),
    "a JSON file with other keys": (
        HF + FILE.format(extra=", allow_extra_keys=True"),
        "c.json",
        "warmup_ratio: 0.03\n",
        {"model_name_or_path": "PF122", "warmup_ratio": "PF122"},
    ),
}


def write(folder: Path, script: str, keys: str) -> None:
    import json

    import yaml

    (folder / "train.py").write_text(script)
    (folder / "c.yaml").write_text(CONFIG + keys)
    (folder / "c.json").write_text(json.dumps(yaml.safe_load(CONFIG + keys), indent=1))


def real(folder: Path, words: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what the script's own parser says, empty where it goes on."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    try:
        runpy.run_path("train.py", run_name="__main__")
    except ValueError as error:
        return str(error)
    return ""


def read(folder: Path, words: list[str], versions: dict[str, str] = VERSIONS) -> list[Problem]:
    command = LaunchCommand(tuple(words), cwd=str(folder))
    try:
        return list(
            read_trainer_arguments(words, 0, command, named_libraries(versions), "train.py").notices
        )
    except BadInput as error:
        return list(error.problems)


@pytest.mark.parametrize("name", CASES)
def test_what_a_script_does_with_an_unknown_name_is_said_before_the_launch(
    name, tmp_path, monkeypatch
):
    script, line, keys, expected = CASES[name]
    words = line.split()
    write(tmp_path, script, keys)
    said = {
        problem.message.split()[0]: problem
        for problem in read(tmp_path, words)
        if problem.id in ("PF122", "PF123")
    }
    theirs = real(tmp_path, words, monkeypatch)
    flags = {word for word in expected if word.startswith("--")}
    refused = {key for key, id in expected.items() if id == "PF123"} & (flags or set(expected))

    assert {key: problem.id for key, problem in said.items()} == expected
    assert bool(theirs) == bool(refused)
    for key in refused:
        assert repr(key) in theirs or repr(f"--{key}") in theirs
    for key, problem in said.items():
        file = words[words.index("--config") + 1] if "--config" in words else words[0]
        if key in flags:
            assert problem.where == key
        else:
            path, _, number = problem.where.partition(":")
            assert path == file
            assert key in (tmp_path / file).read_text().splitlines()[int(number) - 1]


FIXES = {
    "warmup_ratio": "warmup_steps takes it now: below 1 it is a share of the steps",
    "lerning_rate": "did you mean learning_rate",
    "evaluation_strategy": "it is eval_strategy now",
    "my_onw": "did you mean my_own",
    "per-device-train-batch-size": "did you mean per_device_train_batch_size",
    "quite_something_else_zz": "",
}


def test_the_nearest_argument_or_the_one_that_took_over_is_the_fix(tmp_path):
    keys = "".join(f"{key}: 1\n" for key in FIXES)
    write(tmp_path, TRL + "parser.parse_args_and_config()\n", keys)
    problems = [p for p in read(tmp_path, ["--config", "c.yaml"]) if p.id == "PF123"]

    assert {p.message.split()[0]: p.fix for p in problems} == FIXES


@pytest.mark.parametrize(
    "versions",
    [{}, {**VERSIONS, "transformers": "4.57.1"}, {**VERSIONS, "trl": "0.29.0"}],
)
def test_nothing_is_said_of_libraries_whose_arguments_were_not_read(versions, tmp_path):
    write(tmp_path, TRL + "parser.parse_args_and_config()\n", "warmup_ratio: 0.03\n")

    assert [p for p in read(tmp_path, ["--config", "c.yaml"], versions) if p.id] == []


@pytest.mark.parametrize(
    "script",
    [
        TRL.replace("(Mine,", "(Elsewhere,").replace(
            "class Mine", "from x import Elsewhere\nclass Mine"
        ),
        TRL.replace("Mine(ScriptArguments)", "Mine(Mixed)"),
        TRL + "TrlParser(SFTConfig)\n",
        TRL.replace("(Mine, SFTConfig, ModelConfig)", "make_types()"),
    ],
)
def test_a_parser_that_cannot_be_read_whole_is_not_judged(script, tmp_path):
    write(tmp_path, script + "parser.parse_args_and_config()\n", "warmup_ratio: 0.03\n")

    assert [p for p in read(tmp_path, ["--config", "c.yaml"]) if p.id] == []


def test_dataclasses_of_a_file_beside_the_script_are_read(tmp_path):
    (tmp_path / "mine.py").write_text(HEAD + MINE)
    script = HEAD + "from mine import Mine\nTrlParser((Mine, SFTConfig)).parse_args_and_config()\n"
    write(tmp_path, script, "my_own: 2\n")
    problems = [p for p in read(tmp_path, ["--config", "c.yaml"]) if p.id]

    assert [p.where for p in problems] == ["c.yaml:3"]
