"""Every launcher keeps the contract, and what the rest needs to know of launchers is asked of it and listed nowhere."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest
from own_sources import own_trees

from preflight.embedded import guard_doors
from preflight.hooks.read_launch import PLUGINS
from preflight.launch import LaunchPlan
from preflight.launchers.all import launcher_of, launchers, programs, words_in_texts
from preflight.launchers.contract import Launcher

ROOT = Path(__file__).parents[2]
EVERY = pytest.mark.parametrize("launcher", launchers(), ids=lambda launcher: launcher.name)


def function_of(name: str) -> object:
    module, _, function = name.partition(":")
    return getattr(import_module(module), function)


@EVERY
def test_a_launcher_is_one_folder_and_one_plugin_of_its_name(launcher):
    folder = ROOT / "preflight" / "launchers" / launcher.name
    plugin = PLUGINS[f"read_{launcher.name}"]

    assert launcher.reader.startswith(f"preflight.launchers.{launcher.name}.")
    assert (folder / "__init__.py").is_file()
    assert plugin.launcher is launcher
    assert bool(launcher.writer) == hasattr(plugin, "preflight_write_launch")


@EVERY
def test_a_reader_and_a_writer_have_the_types_of_the_contract(launcher):
    reads = signature(function_of(launcher.reader))

    assert [each.annotation for each in reads.parameters.values()] == ["LaunchCommand"]
    assert reads.return_annotation == "LaunchPlan | None"
    if launcher.writer:
        writes = signature(function_of(launcher.writer))
        assert [each.annotation for each in writes.parameters.values()] == ["LaunchPlan"] * 2
        assert writes.return_annotation == "Rewrite | None"


@EVERY
def test_a_subcommand_trains_or_not_and_names_are_of_the_launcher(launcher):
    assert not set(launcher.subcommands) & set(launcher.trains_nothing)
    assert set(launcher.without_subcommand) <= {*launcher.programs, *launcher.modules}


def test_no_program_is_of_two_launchers():
    named = [program for launcher in launchers() for program in launcher.programs]

    assert len(named) == len(set(named)) == len(programs())


@pytest.mark.parametrize(
    ("argv", "first"),
    [
        ("accelerate launch train.py", 1),
        ("accelerate-launch train.py", 1),
        ("/opt/bin/accelerate launch train.py", 1),
        ("python -m accelerate.commands.launch train.py", 3),
        ("python -m accelerate.commands.accelerate_cli launch train.py", 3),
        ("accelerate config", None),
        ("accelerate", None),
        ("torchrun train.py", None),
    ],
)
def test_the_word_behind_a_launcher_is_found_where_it_trains(argv, first):
    accelerate = programs()["accelerate"]

    assert accelerate.first_argument(argv.split()) == first


def test_a_plan_of_nobodys_launcher_has_one_that_differs_in_nothing():
    assert launcher_of(LaunchPlan(launcher="ours")) == Launcher("ours", reader="")
    assert launcher_of(LaunchPlan(launcher="torchrun", trainer="torchtune")).name == "torchtune"


def test_the_doors_of_the_guard_are_those_of_the_launchers():
    """The doors list them again, because they import nothing: they are asked in every Python process."""
    doors = {
        "rendezvous": {*guard_doors.LAUNCHERS, *guard_doors.LAUNCHER_MODULES},
        "startup": set(guard_doors.OTHER_LAUNCHERS),
    }
    # A program of two letters is too often somebody else's.
    named = {
        door: {
            name
            for launcher in launchers()
            if launcher.guarded_by == door
            for name in (*launcher.programs, *launcher.modules)
            if name in (*words_in_texts(), *launcher.modules)
        }
        for door in doors
    }
    with_subcommand = {
        name
        for launcher in launchers()
        if launcher.guarded_by and launcher.subcommands
        for name in (*launcher.programs, *launcher.modules)
        if name not in launcher.without_subcommand
    }

    assert named == doors
    assert set(guard_doors.NEEDS_LAUNCH) == with_subcommand


def test_a_check_of_one_launcher_imports_no_reader_of_another(tmp_path):
    (tmp_path / "train.py").write_text(
        "from transformers import HfArgumentParser, Trainer, TrainingArguments\n"
    )
    code = """
import sys
from preflight.plugins import load_plugins
from preflight.rewriting import read_launch
from preflight.launch import LaunchCommand
read_launch(LaunchCommand(("torchrun", "train.py"), {}, "."), load_plugins())
print(*sorted(name for name in sys.modules if name.startswith("preflight.launchers.")))
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env=env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    imported = set(run.stdout.split())
    readers = {
        launcher.reader.partition(":")[0] for launcher in launchers() if launcher.name != "torchrun"
    }

    assert "preflight.launchers.torchrun.plan" in imported
    assert not readers & imported - {"preflight.launchers.python.plan"}


NAMES = {
    name
    for launcher in launchers()
    for name in (launcher.name, *launcher.programs, *launcher.modules)
}
NOT_LAUNCHERS = {"torch", "transformers"}
"""A list with one of these is one of libraries, some of which have the name of a launcher."""
MAY_LIST = {
    "preflight/derive/tables/launcher_options.py": "asks the parsers of those that have one in an installed library",
    "preflight/embedded/guard_doors.py": "imports nothing, as it is asked in every Python process",
}


def lists_of_launchers(tree: ast.Module) -> list[tuple[int, list[str]]]:
    """Return line and names of every list, tuple, set and dict that spells out two launchers or more."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
            elements = node.elts
        elif isinstance(node, ast.Dict):
            elements = [key for key in node.keys if key is not None]
        else:
            continue
        words = {each.value for each in elements if isinstance(each, ast.Constant)}
        named = sorted(words & NAMES)
        if len(named) > 1 and not words & NOT_LAUNCHERS:
            found.append((node.lineno, named))
    return found


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('A = ("torchrun", "accelerate")', [["accelerate", "torchrun"]]),
        ('A = {"axolotl": 1, "llamafactory": 2, "ours": 3}', [["axolotl", "llamafactory"]]),
        ('if x in {"tune", "trl"}: pass', [["trl", "tune"]]),
        ('A = ["accelerate", "deepspeed", "torch"]', []),
        ('A = ("accelerate", "launch")', []),
    ],
)
def test_a_list_of_launchers_is_seen(text, named):
    assert [names for _, names in lists_of_launchers(ast.parse(text))] == named


def test_nobody_else_lists_launchers():
    own = tuple(f"preflight/launchers/{launcher.name}/" for launcher in launchers())
    listed = {
        f"{path}:{line}": names
        for path, tree in own_trees()
        if not path.startswith(own) and path not in MAY_LIST
        for line, names in lists_of_launchers(tree)
    }

    assert listed == {}


WITH_FLAGS = {"mpi", "accelerate", "torchrun", "deepspeed", "python", "trl", "swift"}
"""Launchers whose scripts are told a length by a flag of their own, `--max_length` where none is known."""


@EVERY
def test_a_shorter_length_is_advised_in_the_launchers_own_words(launcher):
    assert ("seq_len" in launcher.spellings) is (launcher.name not in WITH_FLAGS)
