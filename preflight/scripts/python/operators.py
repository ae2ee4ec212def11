"""What Python's operators make of values that are known, where that is cheap and certain."""

from __future__ import annotations

import ast
import json
import math
import operator
import os
from collections.abc import Callable, Mapping, Sized
from typing import Any

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.scope import UNKNOWN

FORMAT = "format"
"""The one method of a text that is told by names."""
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
    if kind is ast.Mod and isinstance(left, str):
        return _filled(left, right if isinstance(right, tuple) else (right,))
    if kind is ast.Mod and not _is_number(left):
        return UNKNOWN
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


_AS_WIDE = lazy_pattern(r"\{[^{}]*[:!.\[]|%[^sd%]|%%")
"""In a text that is filled in, what may make it wider than what it is given, or asks an object for more."""


def _filled(text: str, given: tuple[object, ...]) -> object:
    """Return `"llama-%s" % size`, filled with texts and numbers as they are."""
    return _tried(operator.mod, [text, given]) if _is_plain(text, given) else UNKNOWN


def _format(text: str, *given: object, **named: object) -> str:
    """Return `"llama-{}".format(size)`, filled with texts and numbers as they are."""
    if not _is_plain(text, (*given, *named.values())):
        raise ValueError("as wide as the format says")
    return text.format(*given, **named)


def _is_plain(text: str, given: tuple[object, ...]) -> bool:
    """Tell whether a text is filled with texts and numbers, each as it is."""
    return not _AS_WIDE.search(text) and all(isinstance(e, (str, int, float)) for e in given)


TEXT_METHODS: dict[str, Callable[..., Any]] = {
    "split": str.split,
    "rsplit": str.rsplit,
    "partition": str.partition,
    "rpartition": str.rpartition,
    "strip": str.strip,
    "lstrip": str.lstrip,
    "rstrip": str.rstrip,
    "removeprefix": str.removeprefix,
    "removesuffix": str.removesuffix,
    "lower": str.lower,
    "upper": str.upper,
    "startswith": str.startswith,
    "endswith": str.endswith,
    "replace": str.replace,
    "join": str.join,
    FORMAT: _format,
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
    **dict.fromkeys(("ast.literal_eval", "literal_eval"), ast.literal_eval),
    "json.loads": json.loads,
    "sum": sum,
    "round": round,
    **dict.fromkeys(("math.ceil", "ceil"), math.ceil),
    **dict.fromkeys(("math.floor", "floor"), math.floor),
    **dict.fromkeys(("np.ceil", "numpy.ceil"), lambda number: float(math.ceil(number))),
    **dict.fromkeys(("np.floor", "numpy.floor"), lambda number: float(math.floor(number))),
}
"""Functions that Python itself, or numpy, has, and that cost little."""


MOST_TEXT = 1 << 13
"""Characters that a method of a text may be given: it makes no more of them than their square, and nothing more of that."""


def of_text(
    method: str, text: object, arguments: list[object], named: Mapping[str, object]
) -> object:
    """Return what a method of a text gives."""
    apply = TEXT_METHODS.get(method)
    given = (*arguments, *named.values())
    if apply is None or not isinstance(text, str) or UNKNOWN in given:
        return UNKNOWN
    if sum(len(each) for each in (text, *given) if isinstance(each, Sized)) > MOST_TEXT:
        return UNKNOWN
    return UNKNOWN if named and method != FORMAT else _tried(apply, [text, *arguments], named)


def of_function(name: str, arguments: list[object]) -> object:
    """Return what one of Python's own functions gives."""
    if name not in OF_SEVERAL or UNKNOWN in arguments:
        return UNKNOWN
    return _tried(OF_SEVERAL[name], arguments)


_FAILURES = (
    *(TypeError, ValueError, LookupError, OverflowError, SyntaxError),
    *(RecursionError, MemoryError),  # of a text whose brackets are too deep
)


def _tried(
    apply: Callable[..., Any], arguments: list[object], named: Mapping[str, object] | None = None
) -> object:
    try:
        result: object = apply(*arguments, **(named or {}))
    except _FAILURES:
        return UNKNOWN
    return result
