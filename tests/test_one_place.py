"""A fact is written in one place: these lists are not spelled out again elsewhere."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from preflight.bool_words import STRTOBOOL
from preflight.plan_choices import HF_TRAINERS

ROOT = Path(__file__).parent.parent
SOURCES = [
    path
    for folder in ("preflight", "hooks")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "templates" not in path.parts
]
HOMES = {frozenset(HF_TRAINERS): "preflight/plan_choices.py"}
"""Words of a list -> the file that may write them out."""


def listed_words(tree: ast.AST) -> list[frozenset[object]]:
    """Return the words of every tuple, list and set of constants in a file."""
    return [
        frozenset(each.value for each in node.elts if isinstance(each, ast.Constant))
        for node in ast.walk(tree)
        if isinstance(node, (ast.Tuple, ast.List, ast.Set))
        and all(isinstance(each, ast.Constant) for each in node.elts)
    ]


def names_bools(words: frozenset[object]) -> bool:
    """Tell whether a list is one of words for true, for false, or for both."""
    lower = {word.lower() for word in words if isinstance(word, str)}
    bools = lower & (STRTOBOOL.true | STRTOBOOL.false)
    return len(bools) > 1 and bools == lower and bool(lower & {"yes", "y", "on", "no", "n", "off"})


def test_words_for_true_and_false_are_written_out_in_one_file():
    """Each tool has its own; a shell's `true` and `false` are programs."""
    homes = {
        str(path.relative_to(ROOT))
        for path in SOURCES
        if any(map(names_bools, listed_words(ast.parse(path.read_text()))))
    }

    assert homes == {"preflight/bool_words.py"}


@pytest.mark.parametrize(("words", "home"), HOMES.items(), ids=HOMES.values())
def test_a_list_is_written_out_in_its_home_alone(words, home):
    homes = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if not path.relative_to(ROOT).is_relative_to("preflight/hooks")
        and words in listed_words(ast.parse(path.read_text()))
    ]

    assert homes == [home]


def writes_to_a_standard_stream(node: ast.AST) -> bool:
    """Tell `print(...)` and `sys.stderr.write(...)`, which a closed or full stream makes an exception."""
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Name):
        return node.func.id == "print"
    return ast.unparse(node.func) in (
        f"sys.{stream}.{method}" for stream in ("stdout", "stderr") for method in ("write", "print")
    )


def test_one_file_writes_to_standard_streams():
    """What is lost there is lost in `say`, which knows that a launch is worth more than its report."""
    of_others = (
        "preflight/derive/",
        "preflight/trace/worker.py",
        "preflight/render/hook_reference.py",
    )
    homes = {
        str(path.relative_to(ROOT))
        for path in SOURCES
        if not str(path.relative_to(ROOT)).startswith(of_others)
        and any(map(writes_to_a_standard_stream, ast.walk(ast.parse(path.read_text()))))
    }

    assert homes == set()


PREDICATES = ("is", "are", "has", "must", "cannot be", "says", "holds", "gives", "names", "lists")
"""First words of a message without a subject; `cannot write FILE` has its own."""


def test_a_complaint_has_a_subject():
    """`preflight: is not a folder` makes the reader look for what: `BadInput.of` puts the place in front."""
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and ast.unparse(node.func) in ("BadInput.one", "Problem")
                and node.args
                and ast.unparse(node.args[0])
                .lstrip("f'\"")
                .startswith(tuple(f"{word} " for word in PREDICATES))
            ):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")

    assert found == []
