"""Which kind of value every field of a plan holds: a plan file, `--set`, preflight.toml and scripts may say anything."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any

from preflight.units import DTYPE_BYTES
from preflight.values import NamedTuple

LARGEST = 2**40
"""Of a whole number that counts elements or bytes; nothing that trains has more."""
NESTED_DTYPES = ("compute_dtype", "dtype", "grad_accum_dtype")
"""Fields of nested values that memory is counted in; those of the plan itself have their own choices."""


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST


def _is_number(value: Any) -> bool:
    is_real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_real and math.isfinite(value)


def _is_names(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(item, str) for item in value)


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


def _is_table_of_text(value: Any) -> bool:
    return _is_table(value) and all(isinstance(item, str) for item in value.values())


KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "None": ("null", lambda value: value is None),
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "int": (f"a whole number up to {LARGEST:,}", _is_whole),
    "float": ("a number", _is_number),
    "str": ("text", lambda value: isinstance(value, str)),
    "tuple[str, ...]": ("a list of names", _is_names),
    "Mapping[str, Any]": ("a mapping", _is_table),
    "Mapping[str, str]": ("a mapping of text", _is_table_of_text),
}
"""Annotation of a field -> how it is called, and what is of that kind."""


PLAIN: dict[str, type[Any]] = {"None": type(None), "bool": bool, "str": str}
"""Annotation of a field -> the type all of whose values it takes."""


class _Kinds(NamedTuple):
    """What one field may hold."""

    name: str
    nouns: tuple[str, ...]
    tests: tuple[Callable[[Any], bool], ...]
    """One of them must hold; empty where the annotation is a class of its own."""
    plain: frozenset[type[Any]]
    """Types of which every value is one of these kinds: most fields of most plans."""


_KINDS_OF: dict[type[Any], tuple[_Kinds, ...]] = {}


def _kinds_of(owner: type[Any]) -> tuple[_Kinds, ...]:
    """Return the fields of a class; worked out once, because every edit of a plan asks."""
    if owner in _KINDS_OF:
        return _KINDS_OF[owner]
    found = []
    for field in fields(owner):
        if not field.repr:  # no file gives it
            continue
        kinds = str(field.type).split(" | ")
        known = [KINDS[kind] for kind in kinds if kind in KINDS]
        is_closed = len(known) > (kinds[-1] == "None")
        nouns = tuple(noun for noun, _ in known if noun != "null")
        tests = tuple(t for _, t in known) if is_closed else ()
        plain = {PLAIN[kind] for kind in kinds if kind in PLAIN}
        if field.name in NESTED_DTYPES:
            plain.discard(str)
        found.append(_Kinds(field.name, nouns, tests, frozenset(plain)))
    _KINDS_OF[owner] = tuple(found)
    return _KINDS_OF[owner]


def wrong_types(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield field and complaint for everything in a plan, or in a value nested in it, that is of another kind."""
    for name, nouns, tests, plain in _kinds_of(type(value)):
        held = getattr(value, name)
        if type(held) in plain:
            continue
        if name in NESTED_DTYPES and isinstance(held, str) and held not in DTYPE_BYTES:
            wanted = ", ".join(DTYPE_BYTES)
            yield f"{path}{name}", f"{path}{name} must be one of {wanted}, not {held!r}"
        if hasattr(held, "__dataclass_fields__"):
            yield from wrong_types(held, f"{name}.")
            continue
        for is_kind in tests:
            if is_kind(held):
                break
        else:
            if tests:
                wanted = " or ".join(nouns)
                yield f"{path}{name}", f"{path}{name} must be {wanted}, not {_shown(held)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
