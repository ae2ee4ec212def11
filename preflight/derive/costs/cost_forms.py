"""Sums of named sizes: how a tensor's bytes are solved for them, and how such sums are added up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from math import gcd
from typing import Any

from preflight.formulas.layers.layer_sizes import CHUNK, Form

LARGEST_COUNT = 64
COUNTED_IN = {"N*lnv": 4 * CHUNK * CHUNK, "Bc*lnv": 8}
"""Names that may be counted more often, or less: a delta rule solves each chunk row by row, with squares of every size up
to a chunk's of all heads (modeling_kimi_linear.py chunk_kimi_delta_attention, 5.24.0), which are of all chunks."""
NEGLIGIBLE_BYTES = 640
"""ALiBi's slopes, a number per head in powers of two; the places that DeBERTa's distances are in; the frequencies of
positions on three axes, of every sequence (modeling_qwen3_5.py Qwen3_5TextRotaryEmbedding, 5.16.1)."""
Sizes = Sequence[Mapping[str, int]]
"""The named sizes of one layer, by variant."""


class NotSolved(Exception):
    """A tensor is no small sum of named sizes."""


def solve(vector: tuple[int, ...], sizes: Sizes) -> Form:
    """Return a tensor's bytes as the simplest sum of named sizes that holds in every variant."""
    if not any(vector):
        return {}
    if id(sizes) not in SOLVED:
        SOLVED[id(sizes)] = _Named(sizes), {}
    named, known = SOLVED[id(sizes)]
    if vector not in known:
        known[vector] = _solve(vector, named)
    return known[vector]


Columns = Mapping[tuple[int, ...], Sequence[tuple[str, int]]]
"""Numbers in lowest terms -> the names whose columns are so many times that, in order."""


class _Named:
    """The named sizes of a layer, as they are looked through: by direction, and all at once."""

    def __init__(self, sizes: Sizes) -> None:
        import numpy

        self.sizes = sizes  # kept, so that no other list has its id
        names = [name for name in sizes[0] if any(one[name] for one in sizes) and _is_one(name)]
        columns = {name: tuple(one[name] for one in sizes) for name in names}
        pairs = {name: column for name, column in columns.items() if ":" not in name}
        self.every, self.plain = _by_direction(columns), _by_direction(pairs)
        distinct: dict[tuple[int, ...], str] = {}
        for name, column in pairs.items():
            distinct.setdefault(column, name)
        self.names = [*distinct.values()]
        shape = (-1, len(sizes))
        self.columns = numpy.array([*distinct], numpy.int64).reshape(shape)
        directions = numpy.array([*self.plain], numpy.int64).reshape(shape)
        self.keys = numpy.unique(_keys(directions))

    def multiples(self, rests: Any) -> Iterator[tuple[int, tuple[str, int]]]:
        """Yield the rows that are whole parts of a named size, in order, with its name and how many of it they are."""
        import numpy

        places = numpy.flatnonzero((rests > 0).all(axis=1))
        if not len(places):
            return
        rows = rests[places]
        directions = rows // numpy.gcd.reduce(rows, axis=1)[:, None]
        for place in places[numpy.isin(_keys(directions), self.keys)]:
            found = _multiple([int(v) for v in rests[place]], self.plain)
            if found is not None:
                yield int(place), found


def _is_one(name: str) -> bool:
    """Tell whether a name may be a tensor's: a table of positions has a part of a head at most, not of all heads."""
    scale, _, what = name.partition("*")
    return not (scale == "L" and "*" in what and "//" in what)


def _keys(rows: Any) -> Any:
    """Return a number for every row, nearly always another one for another row."""
    import numpy

    factors = numpy.array([982451653, 961748941, 941083987, 920419823][: rows.shape[1]])
    return (rows * factors).sum(axis=1)


SOLVED: dict[int, tuple[_Named, dict[tuple[int, ...], Form]]] = {}


def _solve(vector: tuple[int, ...], named: _Named) -> Form:
    import numpy

    if len(set(vector)) == 1:
        return {"C": vector[0]}
    found = _multiple(vector, named.every)
    if found:
        return dict([found])
    own, whole = named.columns, numpy.array(vector, numpy.int64)
    for small in (4, 16):
        counts = numpy.arange(1, small + 1)
        rests = whole - own[:, None, :] * counts[:, None]
        for place, other in named.multiples(rests.reshape(-1, len(vector))):
            return counted([(named.names[place // small], place % small + 1), other])
    for first, one in enumerate(own):
        if (one * 2 >= whole).any():
            continue
        rests = whole - (own + one)[:, None, :] * numpy.array((2, 4))[:, None]
        for place, other in named.multiples(rests.reshape(-1, len(vector))):
            count = (2, 4)[place % 2]
            return counted([(named.names[first], count), (named.names[place // 2], count), other])
    if max(vector) <= NEGLIGIBLE_BYTES:
        return {"C": max(vector)}
    raise NotSolved(str(vector))


def in_halves(vector: tuple[int, ...], named: Sequence[Mapping[str, int]]) -> dict[str, float]:
    """Return a number as the sum of the fewest sizes, whole or half, that holds in every variant."""
    import numpy

    if not any(vector):
        return {}
    names = [n for n in named[0] if named[0][n]]
    for length in range(1, len(vector)):
        for chosen in combinations(names, length):
            columns = numpy.array([[one[name] for name in chosen] for one in named], float)
            found = numpy.linalg.lstsq(columns, numpy.array(vector, float), rcond=None)[0]
            halves = numpy.round(found * 2) / 2
            if halves.all() and (columns @ halves == numpy.array(vector)).all():
                return {n: float(count) for n, count in zip(chosen, halves, strict=True)}
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
        if times % shared == 0 and times // shared <= COUNTED_IN.get(name, LARGEST_COUNT):
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
