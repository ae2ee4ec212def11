"""What an object of a script's own class holds whose `__init__` sets its attributes, one after the other."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.bindings import Site, told_by
from preflight.scripts.python.nodes import unparse, walk
from preflight.scripts.python.scope import UNKNOWN, Known, Scope
from preflight.scripts.python.values import Evaluator
from preflight.setting import Place


def set_by_constructor(
    cls: ast.ClassDef,
    constructors: Iterable[tuple[ast.FunctionDef, Scope]],
    site: Site,
    evaluator: Evaluator,
) -> dict[str, Known] | None:
    """Return the attributes that one call of a class sets; None of a class that has other methods, which are no settings,
    stands on another, or sets attributes by name.

    UNKNOWN are those that are set under a condition, or twice.
    """
    method, own = next((each for each in constructors if each[0] in cls.body), (None, None))
    stands_alone = not cls.decorator_list and all(unparse(base) == "object" for base in cls.bases)
    others = (node for node in cls.body if isinstance(node, _FUNCTIONS) and node is not method)
    if (
        method is None
        or own is None
        or any(others)
        or not stands_alone
        or _BY_NAME.search(unparse(cls))
    ):
        return None
    if any(isinstance(node, ast.Return) for node in walk(method)):
        return None
    names: dict[str, Known] = {}
    with evaluator.told(own, told_by(method, own, site, evaluator)):
        for statement in method.body:
            target, value = _set(statement)
            if target is not None and value is not None:
                place = Place("script", own.path, target.attr, statement.lineno)
                known = evaluator.evaluate(value, own)
                names[target.attr] = Known(known.value, place, known.flag)
    often = [node.attr for node in walk(cls) if isinstance(node, ast.Attribute) and _is_set(node)]
    for name in often:
        if often.count(name) > 1 or name not in names:
            names[name] = Known(UNKNOWN, Place("script", own.path, name, method.lineno))
    return names


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_BY_NAME = lazy_pattern(r"\bsetattr\(|__dict__|vars\(self\)|__setattr__|__getattr")


def _set(statement: ast.stmt) -> tuple[ast.Attribute | None, ast.expr | None]:
    """Return the attribute of `self` that a statement sets, and to what."""
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target: ast.expr = statement.targets[0]
    elif isinstance(statement, ast.AnnAssign):
        target = statement.target
    else:
        return None, None
    is_own = isinstance(target, ast.Attribute) and _is_set(target)
    return (target, statement.value) if is_own and isinstance(target, ast.Attribute) else (None, None)  # fmt: skip


def _is_set(node: ast.Attribute) -> bool:
    is_own = isinstance(node.value, ast.Name) and node.value.id == "self"
    return is_own and not isinstance(node.ctx, ast.Load)
