"""Sums of named sizes: how a tensor's bytes are solved for them, and how such sums are added up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

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


def _solve(vector: tuple[int, ...], sizes: Sizes) -> Form:
    names = [name for name in sizes[0] if any(one[name] for one in sizes)]
    columns = {name: tuple(one[name] for one in sizes) for name in names}
    if len(set(vector)) == 1:
        return {"C": vector[0]}
    for name in names:
        count = _times(vector, columns[name])
        if count:
            return {name: count}
    pairs = [name for name in names if ":" not in name]
    for small in (4, 16):
        for first in pairs:
            for count in range(1, small + 1):
                rest = tuple(v - count * c for v, c in zip(vector, columns[first], strict=True))
                if min(rest) <= 0:
                    break
                for second in pairs:
                    other = _times(rest, columns[second])
                    if other:
                        return {first: count, second: other}
    for first in pairs:
        for second in pairs:
            for count in (2, 4):
                rest = tuple(
                    v - count * (a + b)
                    for v, a, b in zip(vector, columns[first], columns[second], strict=True)
                )
                if min(rest) <= 0:
                    continue
                for third in pairs:
                    other = _times(rest, columns[third])
                    if other:
                        return counted([(first, count), (second, count), (third, other)])
    if max(vector) <= NEGLIGIBLE_BYTES:
        return {"C": max(vector)}
    raise NotSolved(str(vector))


def counted(terms: Iterable[tuple[str, int]]) -> Form:
    found: dict[str, int] = {}
    for name, count in terms:
        found[name] = found.get(name, 0) + count
    return found


def _times(vector: Sequence[int], column: Sequence[int]) -> int:
    if not column[0] or vector[0] % column[0]:
        return 0
    count = vector[0] // column[0]
    if count > LARGEST_COUNT:
        return 0
    return count if all(v == count * c for v, c in zip(vector, column, strict=True)) else 0


def summed(*forms: Form) -> dict[str, int]:
    return without_zeros(counted(pair for form in forms for pair in form.items()))


def taken_off(total: Form, *forms: Form) -> dict[str, int]:
    return summed(total, *({name: -count for name, count in form.items()} for form in forms))


def without_zeros(form: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in form.items() if count}
