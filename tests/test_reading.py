"""A reading is a value with its problems, and a function keeps the problems of what it calls in order."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from own_sources import own_trees

from preflight.errors import Problem
from preflight.reading import Problems, Reading

WARNING = Problem("odd", "a.yaml:1", severity="warning")
ERROR = Problem("wrong", "a.yaml:2")


def test_problems_are_kept_in_the_order_in_which_they_came_up():
    problems = Problems([ERROR])
    values = [problems.take(Reading(7, (WARNING,))), problems.take(Reading("x"))]

    assert (values, problems) == ([7, "x"], [ERROR, WARNING])


def test_only_what_is_an_error_was_refused():
    assert Problems([WARNING, ERROR]).refused == {"a.yaml:2"}


def test_a_reading_is_equal_to_another_of_the_same_and_cannot_be_changed():
    reading = Reading[int](1, (ERROR,))

    assert reading == Reading(1, (ERROR,))
    with pytest.raises(AttributeError):
        reading.value = 2


def test_a_reading_is_refused_where_one_problem_is_an_error():
    assert not Reading(1, (WARNING,)).is_refused
    assert Reading(1, (WARNING, ERROR)).is_refused


# A list of problems belongs to the function that fills it.

CHANGES = ("append", "extend", "insert", "clear", "pop", "remove", "sort", "reverse", "take")
MUTABLE = re.compile(r"\b(?:list|List|deque|MutableSequence)\[\s*Problem\b|\bProblems\b")


def handed_down(tree: ast.AST) -> Iterator[str]:
    """Yield `line: what` for every function that gets a list of problems, or changes one that it was handed."""
    for function in ast.walk(tree):
        if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        given = function.args
        parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs]
        for parameter in parameters:
            written = "" if parameter.annotation is None else ast.unparse(parameter.annotation)
            is_bare = parameter.arg == "problems" and written in ("", "list", "Any")
            if is_bare or MUTABLE.search(written):
                yield f"{function.lineno}: gets {parameter.arg}"
        names = {parameter.arg for parameter in parameters} - {"self"}
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                place, change = node.func.value, node.func.attr
                if change in CHANGES and isinstance(place, ast.Attribute):
                    owner = place
                    while isinstance(owner, ast.Attribute):
                        owner = owner.value
                    is_theirs = isinstance(owner, ast.Name) and owner.id in names
                    if place.attr == "problems" and is_theirs:
                        yield f"{node.lineno}: changes {ast.unparse(place)}"


@pytest.mark.parametrize(
    "text",
    [
        "def read(words: str, problems: list[Problem]) -> None: ...",
        "def read(found: Problems) -> None: ...",
        "def read(found: list[Problem] | None = None) -> None: ...",
        "def read(*, problems=()): ...",
        "class Plan:\n    def read(self, problems: List[Problem]): ...",
        "def read(given: Given) -> None:\n    given.fields.problems.append(1)",
        "read = lambda problems: problems",
    ],
)
def test_a_list_that_is_handed_down_is_seen(text):
    assert list(handed_down(ast.parse(text)))


@pytest.mark.parametrize(
    "text",
    [
        "def shown(problems: Iterable[Problem]) -> str: ...",
        "def shown(problems: tuple[Problem, ...]) -> str: ...",
        "def read(words: str) -> None:\n    problems = Problems()\n    problems.append(1)",
        "class Keys:\n    def refuse(self) -> None:\n        self.problems.append(1)",
        "def read(words: str) -> None:\n    words.parts.append(1)",
    ],
)
def test_problems_that_are_only_read_or_ones_own_are_let_be(text):
    assert not list(handed_down(ast.parse(text)))


def test_nobody_is_handed_a_list_of_problems_to_append_to():
    found = [f"{path}:{what}" for path, tree in own_trees() for what in handed_down(tree)]

    assert not found
