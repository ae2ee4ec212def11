"""What a launch reaches of a repository counts, however it is called; what its arguments rule out does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from preflight.launch import LaunchCommand
from preflight.scripts.read_signs import signs_of
from preflight.scripts.reading import open_script
from preflight.scripts.signs import Signs
from tests.scripts.ways_to_reach import FILES, NOT_REACHED, REACHED

ARGUMENTS = """\
import argparse
from transformers import Trainer, TrainingArguments, AutoModelForCausalLM

parser = argparse.ArgumentParser()
parser.add_argument("--mode", default="sft")
parser.add_argument("--use_vllm", action="store_true")
parser.add_argument("--n", type=int, default=0)
args = parser.parse_args()
"""
TRAINS = """
Trainer(AutoModelForCausalLM.from_pretrained("gpt2"), TrainingArguments("o")).train()
"""
ENGINE = "an inference engine's share of the card"


def signs(folder: Path, script: str, files: dict[str, str]) -> Signs:
    """Return what a script speaks of in a folder of these files, started without any argument."""
    for name, text in {**files, "train.py": script}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    command = LaunchCommand(("torchrun", "train.py"), {}, str(folder))
    reader = open_script(command, "train.py", script)
    if reader is not None:
        reader.read(lambda names: None)
    return signs_of(command, "train.py", reader)


@pytest.mark.parametrize("way", REACHED.values(), ids=REACHED)
def test_an_engine_counts_in_whatever_way_it_is_reached(tmp_path, way):
    assert ENGINE in signs(tmp_path, ARGUMENTS + way + TRAINS, FILES).unpriced


@pytest.mark.parametrize("way", NOT_REACHED.values(), ids=NOT_REACHED)
def test_an_engine_that_the_arguments_rule_out_does_not_count(tmp_path, way):
    assert ENGINE not in signs(tmp_path, ARGUMENTS + way + TRAINS, FILES).unpriced


PROBE = """\
import importlib


def is_there(name):
    try:
        importlib.import_module(name)
        return True
    except ImportError:
        return False


if is_there({name}):
    engine = 1
"""


def test_a_library_that_is_looked_for_by_its_name_reaches_nothing_of_the_repository(tmp_path):
    files = {**FILES, "probe.py": PROBE.format(name='"vllm"')}
    script = "import served\n" + ARGUMENTS + "import probe\n" + TRAINS

    assert ENGINE not in signs(tmp_path, script, files).unpriced
    (tmp_path / "unknown").mkdir()
    files["probe.py"] = PROBE.format(name="input()")
    assert ENGINE in signs(tmp_path / "unknown", script, files).unpriced


LAZY = """\
import sys
from typing import TYPE_CHECKING

from lazy import LazyModule

if TYPE_CHECKING:
    from .served import serve
    from .plain import train
else:
    _import_structure = {"served": ["serve"], "plain": ["train"]}
    sys.modules[__name__] = LazyModule(__name__, globals()["__file__"], _import_structure)
"""
LAZY_CLASS = """\
import importlib
from types import ModuleType


class LazyModule(ModuleType):
    def __getattr__(self, name):
        return getattr(importlib.import_module("." + self._of[name], self.__name__), name)
"""


def test_a_lazy_package_gives_what_it_is_asked_for(tmp_path):
    files = {
        "lazy.py": LAZY_CLASS,
        "pkg/__init__.py": LAZY,
        "pkg/served.py": FILES["served.py"],
        "pkg/plain.py": "def train(): ...\n",
    }

    assert ENGINE not in signs(tmp_path, "from pkg import train\ntrain()\n", files).unpriced
    assert ENGINE in signs(tmp_path, "from pkg import serve\nserve()\n", files).unpriced


def test_a_chain_of_files_is_followed_past_those_that_nothing_names(tmp_path):
    """Forty files that nothing names do not hide the one that is called."""
    files = {f"aside_{index}.py": "x = 1\n" for index in range(60)}
    imports = "".join(f"import aside_{index}\n" for index in range(60))
    script = imports + "from served import serve\nserve()\n"

    assert ENGINE in signs(tmp_path, script, {**files, **FILES}).unpriced


SPEAKS = """\
import dataclasses
from transformers import HfArgumentParser, Trainer, TrainingArguments


class OwnParser(HfArgumentParser):
    def parse(self):
        return self.parse_args_into_dataclasses()


@dataclasses.dataclass
class Arguments:
    vision_tower: str | None = {tower}
    sequence_parallel_size: int = 1


(args,) = OwnParser(Arguments).parse(){changes}
if args.vision_tower is not None or args.sequence_parallel_size > 1:
    divide(args)
"""


def test_an_argument_that_is_off_speaks_of_nothing(tmp_path):
    def of(tower: str, changes: str = "") -> Signs:
        return signs(tmp_path, SPEAKS.format(tower=tower, changes=changes) + TRAINS, {})

    assert not of("None").unpriced and of("None").is_text_only
    assert set(of("'clip'").unpriced) == {"images or audio beside the text"}
    assert "images or audio beside the text" in of("None", "\nargs.vision_tower = ask()").unpriced
    assert (
        "a sequence that is divided over ranks"
        in of("None", "\nfor key in ask():\n    setattr(args, key, 2)").unpriced
    )


def test_what_is_too_deep_to_be_followed_counts_whole(tmp_path):
    deep = "if a: x = 1\n" + "".join(f"elif a == {n}: x = {n}\n" for n in range(2_500))

    assert (
        ENGINE
        in signs(
            tmp_path, "from deep import x\n", {**FILES, "deep.py": deep + "import vllm.engine\n"}
        ).unpriced
    )
    assert ENGINE in signs(tmp_path, deep + "import served\n", FILES).unpriced


INFERS = """\
import deepspeed
from transformers import AutoModelForCausalLM, HfArgumentParser, TrainingArguments

(args,) = HfArgumentParser((TrainingArguments,)).parse_args_into_dataclasses()
model = AutoModelForCausalLM.from_pretrained("gpt2")
engine = deepspeed.initialize(model=model, config_params=args.deepspeed)[0]
print(engine.module.generate())
"""


def test_an_engine_without_its_optimizer_trains_nothing(tmp_path):
    assert not signs(tmp_path, INFERS, {}).may_train
    assert signs(tmp_path, INFERS + "engine.step()\n", {}).may_train
    assert signs(tmp_path, INFERS.replace("[0]", ""), {}).may_train


ENCODES = """\
import faiss
import torch
from rows import read

model = torch.jit.load("encoder.pt")
with torch.no_grad():
    rows = model(read("rows.txt"))
"""
NO_TRAINING = {
    "an index": "index = faiss.index_factory(8, 'IVF4,Flat')\nindex.train(rows)\n",
    "a switch": "model.train(False)\n",
    "documentation": 'def serve():\n    """Start a Trainer, and wait."""\n    wait()\n',
    "a comment": "# loss.backward()\n",
    "a keyword": "stage = Stage(start_training_step=1)\n",
    "a profiler": "with torch.profiler.profile() as prof:\n    prof.step()\n",
    "gradients of a test": "x = torch.randn(4, requires_grad=True)\nkernel(x).backward(rows)\n",
}


@pytest.mark.parametrize("lines", NO_TRAINING.values(), ids=NO_TRAINING)
def test_what_only_sounds_like_training_trains_nothing(tmp_path, lines):
    found = signs(tmp_path, ENCODES + lines, {})

    assert not found.may_train and found.infers


@pytest.mark.parametrize(
    "lines",
    [
        "trainer.train(rows)\n",
        "indexer = model.train()\n",
        "litgpt.pretrain(rows)\n",
        "optimizer = torch.optim.SGD(model.parameters())\nloss(rows).backward(rows)\n",
        "model = AutoModel.from_pretrained('gpt2')\nmodel(rows).loss.backward()\n",
        "class Own(LightningModule):\n    def training_step(self, batch):\n        return 0\n",
    ],
)
def test_what_may_change_weights_may_train(tmp_path, lines):
    assert signs(tmp_path, ENCODES + lines, {}).may_train


PICKS = """\
from dataclasses import dataclass

from transformers import HfArgumentParser


@dataclass
class Tuning:
    use_vllm: bool = False
    rounds: int = 1


@dataclass
class Ranking:
    use_vllm: bool = False
    rounds: int = {rounds}


KINDS = {"tune": Tuning, "rank": Ranking}


def pick(name):
    return KINDS[name]


Arguments = pick({kind})
(args,) = HfArgumentParser((Arguments,)).parse_args_into_dataclasses()
from served import serve
if args.{asked}:
    serve()
"""


@pytest.mark.parametrize(
    ("kind", "asked", "is_reached"),
    [
        ("read()", "use_vllm", False),
        ("read()", "rounds == 2", True),
        ("'tune'", "rounds == 2", False),
        ("'rank'", "rounds == 2", True),
        ("name='rank'", "rounds == 2", True),
    ],
)
def test_arguments_of_a_class_that_is_picked_are_its_own_or_what_all_classes_say(
    tmp_path, kind, asked, is_reached
):
    """`rounds` is 1 of the one and 2 of the other, so nobody knows it where nobody says which is picked."""
    script = PICKS.replace("{asked}", asked).replace("{rounds}", "2").replace("{kind}", kind)

    assert (ENGINE in signs(tmp_path, script + TRAINS, FILES).unpriced) is is_reached


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n\x0c"], ids=["cr", "crlf", "form feed"])
def test_a_line_ends_where_python_ends_it(tmp_path, end):
    files = {"ends.py": f"x = 1{end}import os{end}from vllm import LLM{end}LLM(x)\n", **FILES}
    found = signs(tmp_path, f"import ends{end}x = 'two words'{end}import served\n", files)

    assert ENGINE in found.unpriced
    assert ENGINE not in signs(tmp_path, f"x = 1{end}import served{end}x = 2\n", FILES).unpriced


@pytest.mark.parametrize(
    ("script", "argv", "is_run"),
    [
        ("from tools import go\ngo()\n", "own/train.py", False),
        ("from own.tools import go\ngo()\n", "own/train.py", True),
        ("from own import tools\ntools.go()\n", "own/train.py", True),
        ("import tools\ntools.go()\n", "own/train.py", False),
        ("from .tools import go\ngo()\n", "-m own.train", True),
    ],
)
def test_a_script_of_a_package_runs_the_package_where_it_is_imported(
    script, argv, is_run, tmp_path
):
    """`python own/train.py` runs no `own/__init__.py`; Python itself says whether the file ran."""
    files = {
        "own/__init__.py": "from . import aside\n",
        "own/aside.py": "import at_import\n",
        "own/tools.py": "def go(): ...\n",
        "at_import.py": "from served import serve\nserve()\n",
        "served.py": FILES["served.py"],
        "vllm.py": "class LLM:\n    def __init__(self, name): print('served')\n",
        "own/train.py": script,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    words = argv.split()
    run = subprocess.run(
        [sys.executable, *words],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    command = LaunchCommand(("python", *words), {"PYTHONPATH": str(tmp_path)}, str(tmp_path))
    name = words[-1]
    reader = open_script(command, name, script)
    found = signs_of(command, name, reader).unpriced

    assert (run.returncode, "served" in run.stdout) == (0, is_run)
    assert (ENGINE in found) == is_run
