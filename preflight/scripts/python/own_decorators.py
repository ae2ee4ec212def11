"""Functions of a script that a decorator calls with other arguments than their callers give: one of its own, or of a library."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.assignments import CHANGING
from preflight.scripts.python.nodes import last_name, unparse, walk
from preflight.scripts.python.scope import Scope

Functions = Mapping[str, Sequence[tuple[ast.FunctionDef, Scope]]]
_FILLS = lazy_pattern(r"^(?:gin\.)?(?:external_)?configurable$|\.(?:automain|capture)$")
"""Decorators that give a function what a caller leaves out: gin's, from its file (gin/config.py, 0.5), and sacred's, from
the experiment's (sacred/config/captured_function.py, 0.8)."""


def is_wrapped(function: ast.FunctionDef, functions: Functions) -> bool:
    """Tell whether a decorator may call a function with other arguments than it is called with."""
    for decorator in function.decorator_list:
        named = decorator.func if isinstance(decorator, ast.Call) else decorator
        if _FILLS.search(unparse(named)):
            return True
        own = functions.get(last_name(named), ())
        if any(not _hands_on(each) for each, _ in own):
            return True
    return False


def _hands_on(decorator: ast.FunctionDef) -> bool:
    """Tell whether a decorator calls what it decorates with all that it is given, and nothing else: `function(*args, **kwargs)`."""
    taken, caught = set(), set()
    for node in walk(decorator):
        if isinstance(node, ast.FunctionDef):
            taken |= {each.arg for each in (*node.args.posonlyargs, *node.args.args)}
            caught |= {each.arg for each in (node.args.vararg, node.args.kwarg) if each}
    for node in walk(decorator):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in taken:
            if not all(isinstance(each, ast.Starred) for each in node.args):
                return False
            if any(each.arg is not None for each in node.keywords):
                return False
        if _changes(node) in caught:
            return False
    return True


def _changes(node: ast.AST) -> str:
    """Return the name that a node sets, or whose list or dict it changes; empty for any other."""
    if isinstance(node, ast.Attribute):
        return last_name(node.value) if node.attr in (*CHANGING, "update") else ""
    if isinstance(node, (ast.Name, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
        return last_name(node.value if isinstance(node, ast.Subscript) else node)
    return ""
