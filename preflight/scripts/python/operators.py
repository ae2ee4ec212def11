"""What Python's operators make of values that are known, where that is cheap and certain."""

from __future__ import annotations

import ast
import operator
import os
from collections.abc import Callable
from typing import Any

from preflight.scripts.python.scope import UNKNOWN

_OPERATORS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.BitOr: operator.or_,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
    ast.Is: lambda a, b: a is b,
    ast.IsNot: lambda a, b: a is not b,
}


def applied(kind: type[ast.AST], left: object, right: object) -> object:
    """Return what an operator makes of two values."""
    if left is UNKNOWN or right is UNKNOWN:
        return UNKNOWN
    if kind is ast.Pow:
        if not isinstance(left, int) or not isinstance(right, int):
            return UNKNOWN
        return left**right if 0 <= right <= 64 and abs(left) <= 1024 else UNKNOWN
    if kind is ast.Mod and not _is_number(left):
        return UNKNOWN  # a text filled in, as wide as the format says
    if kind is ast.Mult and not (_is_number(left) and _is_number(right)):
        return UNKNOWN  # a text or a list many times over
    if kind is ast.BitOr and not (isinstance(left, dict) and isinstance(right, dict)):
        return UNKNOWN
    if kind is ast.Div and isinstance(left, str) and isinstance(right, str):
        return os.path.join(left, right)  # of a Path, which is its text here
    apply = _OPERATORS.get(kind)
    if apply is None:
        return UNKNOWN
    try:
        return apply(left, right)
    except (TypeError, ValueError, ArithmeticError):
        return UNKNOWN


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and abs(value) < 1e15


def item_of(holder: object, key: object) -> object:
    """Return what a container has under a key."""
    if not isinstance(holder, (dict, list, tuple, str)):
        return UNKNOWN
    try:
        item: object = holder[key]  # type: ignore[index,call-overload]
        return item
    except (TypeError, KeyError, IndexError):
        return UNKNOWN


def is_same(left: object, right: object) -> bool:
    """Tell whether two values are equal, and of one type: True is not 1 here."""
    return type(left) is type(right) and bool(left == right)


TEXT_METHODS: dict[str, Callable[..., Any]] = {
    "split": str.split,
    "strip": str.strip,
    "lower": str.lower,
    "upper": str.upper,
    "startswith": str.startswith,
    "endswith": str.endswith,
    "replace": str.replace,
}


def _any(items: list[object]) -> bool:
    if UNKNOWN in items and True not in items:
        raise ValueError("one of them decides")
    return any(item for item in items if item is not UNKNOWN)


def _all(items: list[object]) -> bool:
    return not _any([item if item is UNKNOWN else not item for item in items])


OF_SEVERAL: dict[str, Callable[..., Any]] = {
    "len": len,
    "min": min,
    "max": max,
    "abs": abs,
    "any": _any,
    "all": _all,
}
"""Functions that Python itself has, and that cost little."""


def of_text(method: str, text: object, arguments: list[object]) -> object:
    """Return what a method of a text gives."""
    apply = TEXT_METHODS.get(method)
    if apply is None or not isinstance(text, str) or UNKNOWN in arguments:
        return UNKNOWN
    return _tried(apply, [text, *arguments])


def of_function(name: str, arguments: list[object]) -> object:
    """Return what one of Python's own functions gives."""
    if name not in OF_SEVERAL or UNKNOWN in arguments:
        return UNKNOWN
    return _tried(OF_SEVERAL[name], arguments)


def _tried(apply: Callable[..., Any], arguments: list[object]) -> object:
    try:
        result: object = apply(*arguments)
    except (TypeError, ValueError):
        return UNKNOWN
    return result
