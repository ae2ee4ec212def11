"""`lazy_pattern` is `re.compile`, later: same answers, and nothing is compiled while modules are imported."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator

import pytest
from own_sources import SOURCES, own_trees
from test_layers import MODULES

from preflight import lazy_pattern as home
from preflight.lazy_pattern import lazy_pattern


def calls_outside_functions(node: ast.AST) -> Iterator[ast.Call]:
    """Yield the calls that run when a module is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(child, ast.Call):
            yield child
        yield from calls_outside_functions(child)


def test_no_module_compiles_a_pattern_when_it_is_imported():
    eager = [
        f"{path}:{call.lineno}"
        for path, tree in own_trees()
        for call in calls_outside_functions(tree)
        if ast.unparse(call.func) == "re.compile"
    ]

    assert eager == []


def lazy_in(value: object) -> Iterator[home._LazyPattern]:
    """Yield the lazy patterns among a module's names, and in the tables that it has."""
    if isinstance(value, home._LazyPattern):
        yield value
    for inner in value.values() if isinstance(value, dict) else ():
        yield from lazy_in(inner)
    for inner in value if isinstance(value, (tuple, list)) else ():
        yield from lazy_in(inner)


LAZY = sorted(
    name
    for name, path in MODULES.items()
    if "lazy_pattern(" in SOURCES[path].read_text() and name != "preflight.lazy_pattern"
)


@pytest.mark.parametrize("name", LAZY)
def test_every_pattern_of_a_module_compiles(name):
    held = vars(importlib.import_module(name)).items()
    own = {
        key: value for key, value in held if key != "__builtins__"
    }  # everybody's, and IPython's too
    lazy = list(lazy_in(own))

    assert lazy and all(each.groups >= 0 for each in lazy)


def test_a_lazy_pattern_answers_as_a_compiled_one():
    lazy, compiled = (
        lazy_pattern(r"(?P<key>\w)=\w", re.IGNORECASE),
        re.compile(r"(?P<key>\w)=\w", 2),
    )
    text = "a=b c=D"

    assert lazy.pattern == compiled.pattern
    for name in ("search", "match", "fullmatch"):
        assert str(getattr(lazy, name)(text)) == str(getattr(compiled, name)(text))
    assert [m.span() for m in lazy.finditer(text)] == [m.span() for m in compiled.finditer(text)]
    assert lazy.sub(r"\g<key>", text) == compiled.sub(r"\g<key>", text)
    assert (lazy.flags, lazy.groupindex) == (compiled.flags, compiled.groupindex)


def test_a_pattern_is_compiled_once_and_when_it_is_first_asked(monkeypatch):
    compiled: list[str] = []
    whole = re.compile

    def noted(pattern: str, flags: int = 0) -> re.Pattern[str]:
        compiled.append(pattern)
        return whole(pattern, flags)

    monkeypatch.setattr(re, "compile", noted)
    lazy = lazy_pattern("a+")
    assert compiled == []
    lazy.search("a")
    lazy.match("a")

    assert compiled == ["a+"]
