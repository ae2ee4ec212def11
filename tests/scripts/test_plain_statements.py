"""A statement that is written as the plainer one that it is does what Python does with it."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

import pytest

from preflight.scripts.python.nodes import walk
from preflight.scripts.python.plain_statements import write_plainly

MATCHES = [
    "case 1: way = 'one'",
    "case 1 | 2: way = 'few'\n        case _: way = 'many'",
    "case 'a': way = 'a'\n        case 'b' if here: way = 'b'\n        case _ if here: way = 'here'\n        case None: way = 'none'",
    "case _:\n                match subject:\n                    case 2: way = 'inner'",
]
TAKEN_APART = ["case [first, *_]: way = first", "case {'rows': rows}: way = rows", "case str() as name: way = name", "case other: way = other"]  # fmt: skip


def script(cases: str) -> str:
    return f"""
def way_of(subject, here):
    way = None
    for _ in (1,):
        match subject:
        {cases}
    return way
""".replace("        case", "            case")


def ways(tree: ast.Module) -> list[object]:
    names: dict[str, object] = {}
    exec(compile(tree, "script", "exec"), names)  # a text of this file
    way_of = names["way_of"]
    assert callable(way_of)
    subjects = (1, 2, 3, "a", "b", None)
    return [way_of(subject, here) for subject in subjects for here in (True, False)]


@pytest.mark.parametrize("cases", MATCHES)
def test_a_match_over_values_is_a_chain_of_conditions(cases):
    text = script(cases)
    tree = ast.parse(text)
    write_plainly(tree)

    assert not any(isinstance(node, ast.Match) for node in ast.walk(tree))
    assert ways(tree) == ways(ast.parse(text))


@pytest.mark.parametrize("cases", TAKEN_APART)
def test_a_match_that_gives_names_stays_one(cases):
    tree = ast.parse(script(cases))
    write_plainly(tree)

    assert any(isinstance(node, ast.Match) for node in ast.walk(tree))


@pytest.mark.parametrize(
    ("statement", "count"),
    [
        ("self.rows, self.length = 2, 640", 2),
        ("self.rows, length = 2, self.length", 2),
        ("self.rows, self.length = self.length, self.rows", 1),
        ("self.rows, self.length = pair", 1),
        ("self.rows, *self.rest = 2, 640", 1),
        ("first, second = 2, 640", 1),
    ],
)
def test_attributes_that_are_given_together_are_given_one_by_one(statement, count):
    tree = ast.parse(f"class Sizes:\n    def __init__(self, pair):\n        {statement}\n")
    write_plainly(tree)
    (made,) = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))

    assert len(made.body) == count


def test_what_setattr_sets_is_seen_by_those_who_look_later():
    tree = ast.parse("setattr(model, 'lm_head', Head())\n")
    write_plainly(tree)

    assert any(isinstance(node, ast.Attribute) for node in walk(tree))


CALLED = [
    "    first: int\n    second: str = 'b'\n    third: int = field(default=3, repr=False)",
    "    only: int = 1",
]
NOT_WRITTEN = {
    "a class above it": "@dataclass\nclass Rows(Base):\n    first: int = 1\n    def __call__(self): pass",
    "a factory": "@dataclass\nclass Rows:\n    first: list = field(default_factory=list)\n    def __call__(self): pass",
    "a variable of the class": "@dataclass\nclass Rows:\n    first: ClassVar[int] = 1\n    def __call__(self): pass",
    "settings": "@dataclass\nclass Rows:\n    first: int = 1",
    "another decorator": "@register\n@dataclass\nclass Rows:\n    first: int = 1\n    def __call__(self): pass",
}


@pytest.mark.parametrize("fields", CALLED)
def test_a_dataclass_that_is_called_has_the_constructor_that_its_decorator_writes(fields):
    text = f"@dataclass\nclass Rows:\n{fields}\n    def __call__(self):\n        return vars(self)"
    tree = ast.parse(text)
    write_plainly(tree)

    assert "dataclass" not in ast.unparse(tree)
    held = []
    for source in (ast.parse(text), tree):
        names: dict[str, object] = {"dataclass": dataclass, "field": field}
        exec(compile(source, "script", "exec"), names)  # a text of this file
        rows = names["Rows"]
        assert callable(rows)
        held.append([rows(7)(), rows(*[8] * fields.count(":"))()])
    assert held[0] == held[1]


@pytest.mark.parametrize("text", NOT_WRITTEN.values(), ids=NOT_WRITTEN)
def test_a_class_whose_constructor_is_made_otherwise_stays_as_it_is(text):
    tree = ast.parse(text)
    write_plainly(tree)

    assert ast.unparse(tree) == ast.unparse(ast.parse(text))


@pytest.mark.parametrize(
    ("imported", "value", "is_left_out"),
    [
        ("from typing import cast", "cast(int, 1 + 1)", True),
        ("from typing import cast as as_a", "[as_a('int', as_a(int, 2))]", True),
        ("import typing as t", "t.cast(list[int], [3])", True),
        ("def cast(kind, value): return kind(value)", "cast(str, 2)", False),
    ],
)
def test_a_cast_for_type_checkers_is_what_it_is_given(imported, value, is_left_out):
    text = f"{imported}\nvalue = {value}\n"
    tree = ast.parse(text)
    write_plainly(tree)
    before: dict[str, object] = {}
    after: dict[str, object] = {}
    exec(text, before)
    exec(compile(ast.fix_missing_locations(tree), "script", "exec"), after)

    assert before["value"] == after["value"]
    assert any(isinstance(node, ast.Call) for node in ast.walk(tree)) is not is_left_out
