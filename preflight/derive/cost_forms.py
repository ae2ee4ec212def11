"""Sums of named sizes: how a tensor's bytes are solved for them, and how such sums are added up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import gcd

from preflight.formulas.layer_sizes import Form

LARGEST_COUNT = 64
NEGLIGIBLE_BYTES = 64
"""ALiBi's slopes: a number per head, in powers of two."""
Sizes = Sequence[Mapping[str, int]]
"""The named sizes of one layer, by variant."""


class NotSolved(Exception):
    """A tensor is no small sum of named sizes."""


def solve(vector: tuple[int, ...], sizes: Sizes) -> Form:
    """Return a tensor's bytes as the simplest sum of named sizes that holds in every variant."""
    if not any(vector):
        return {}
    key = (vector, id(sizes))
    if key not in SOLVED:
        SOLVED[key] = _solve(vector, sizes)
    return SOLVED[key]


SOLVED: dict[tuple[tuple[int, ...], int], Form] = {}


Columns = Mapping[tuple[int, ...], Sequence[tuple[str, int]]]
"""Numbers in lowest terms -> the names whose columns are so many times that, in order."""


def _solve(vector: tuple[int, ...], sizes: Sizes) -> Form:
    names = [name for name in sizes[0] if any(one[name] for one in sizes)]
    columns = {name: tuple(one[name] for one in sizes) for name in names}
    if len(set(vector)) == 1:
        return {"C": vector[0]}
    every = _by_direction(columns)
    found = _multiple(vector, every)
    if found:
        return dict([found])
    pairs = {name: column for name, column in columns.items() if ":" not in name}
    plain = _by_direction(pairs)
    for small in (4, 16):
        for first, column in pairs.items():
            for count in range(1, small + 1):
                rest = tuple(v - count * c for v, c in zip(vector, column, strict=True))
                if min(rest) <= 0:
                    break
                other = _multiple(rest, plain)
                if other:
                    return counted([(first, count), other])
    for first, one in pairs.items():
        for second, two in pairs.items():
            for count in (2, 4):
                rest = tuple(v - count * (a + b) for v, a, b in zip(vector, one, two, strict=True))
                if min(rest) <= 0:
                    continue
                other = _multiple(rest, plain)
                if other:
                    return counted([(first, count), (second, count), other])
    if max(vector) <= NEGLIGIBLE_BYTES:
        return {"C": max(vector)}
    raise NotSolved(str(vector))


def _by_direction(columns: Mapping[str, tuple[int, ...]]) -> Columns:
    found: dict[tuple[int, ...], list[tuple[str, int]]] = {}
    for name, column in columns.items():
        if all(column):
            shared = gcd(*column)
            found.setdefault(tuple(c // shared for c in column), []).append((name, shared))
    return found


def _multiple(vector: Sequence[int], columns: Columns) -> tuple[str, int] | None:
    """Return the first name whose column is a whole part of a vector, and how many of it the vector is."""
    if not all(v > 0 for v in vector):
        return None
    times = gcd(*vector)
    for name, shared in columns.get(tuple(v // times for v in vector), ()):
        if times % shared == 0 and times // shared <= LARGEST_COUNT:
            return name, times // shared
    return None


def counted(terms: Iterable[tuple[str, int]]) -> Form:
    found: dict[str, int] = {}
    for name, count in terms:
        found[name] = found.get(name, 0) + count
    return found


def summed(*forms: Form) -> dict[str, int]:
    return without_zeros(counted(pair for form in forms for pair in form.items()))


def taken_off(total: Form, *forms: Form) -> dict[str, int]:
    return summed(total, *({name: -count for name, count in form.items()} for form in forms))


def without_zeros(form: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in form.items() if count}
