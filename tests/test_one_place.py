"""A fact is written in one place: these lists are not spelled out again elsewhere."""

from __future__ import annotations

import ast

import pytest
from own_sources import own_trees, tree_of

from preflight.bool_words import STRTOBOOL
from preflight.plan_choices import HF_TRAINERS

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
    homes = {path for path, tree in own_trees() if any(map(names_bools, listed_words(tree)))}

    assert homes == {"preflight/bool_words.py"}


@pytest.mark.parametrize(("words", "home"), HOMES.items(), ids=HOMES.values())
def test_a_list_is_written_out_in_its_home_alone(words, home):
    assert [path for path, tree in own_trees() if words in listed_words(tree)] == [home]


NAMES = "preflight/unpriced_names.py"


def test_what_is_not_priced_has_its_name_from_one_file():
    """A bound, a remedy and a report find it by that text: a second spelling of it is found by none of them."""
    of_names = [node.value for node in tree_of(NAMES).body if isinstance(node, ast.Assign)]
    names = {each.value for each in of_names if isinstance(each, ast.Constant)}
    spelled = {
        path
        for path, tree in own_trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in names
    }

    assert len(names) > 50
    assert spelled == {NAMES}


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
        path
        for path, tree in own_trees()
        if not path.startswith(of_others) and any(map(writes_to_a_standard_stream, ast.walk(tree)))
    }

    assert homes == set()


PREDICATES = ("is", "are", "has", "must", "cannot be", "says", "holds", "gives", "names", "lists")
"""First words of a message without a subject; `cannot write FILE` has its own."""


def test_a_complaint_has_a_subject():
    """`preflight: is not a folder` makes the reader look for what: `BadInput.of` puts the place in front."""
    found = []
    for path, tree in own_trees():
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and ast.unparse(node.func) in ("BadInput.one", "Problem")
                and node.args
                and ast.unparse(node.args[0])
                .lstrip("f'\"")
                .startswith(tuple(f"{word} " for word in PREDICATES))
            ):
                found.append(f"{path}:{node.lineno}")

    assert found == []
