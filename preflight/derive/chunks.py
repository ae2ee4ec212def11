"""From traces with a few chunks of a sequence to forms for any number: for layers that loop over chunks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from preflight.formulas.layer_sizes import CHUNK, Form
from preflight.model import ModelSpec

FEW, MANY = 3, 5
"""Chunks of the sequences that are traced. What grows between them grows with every chunk more; neither divides
the bytes of what one chunk takes, so that a chunk's tensor is not mistaken for a whole sequence's."""
BATCHES = (2, 3, 5)
UNPACKING_BATCHES = (9, 11, 14)
"""The same on a packed base: more tokens than its fused product takes."""
GROWS_INTO = {"B*ls": "N*ls", "B*lnv": "N*lnv"}
"""What one chunk of every sequence takes -> what all chunks do; `Bc*x` grows into `T*x`."""
Level = tuple[Form, Form]


class NotAlike(Exception):
    """Two traces differ in more than the number of their chunks."""


def loops_over_chunks(model: ModelSpec) -> bool:
    """Tell whether a model has layers that work on a sequence chunk by chunk."""
    return "delta" in model.facts


def shapes_of(num_chunks: int, is_packed: bool) -> tuple[tuple[int, int], ...]:
    """Return sequences and their length by variant: whole chunks, so that nothing is padded."""
    batches = UNPACKING_BATCHES if is_packed else BATCHES
    return tuple((batch, num_chunks * CHUNK) for batch in batches)


def joined_levels(few: Sequence[Level], many: Sequence[Level]) -> list[Level]:
    """Return the levels of a part for any number of chunks.

    The first turns of a loop are those of any loop, and so are its last: levels are matched from the
    beginning and from the end, and what is between them is no higher. A checkpointed layer's backward
    has two loops, and what is between those is matched too.
    """
    places = _places(_changes(few), _changes(many))
    return [
        _joined_level(level, many[place]) for level, place in zip(few, [0, *places], strict=True)
    ]


def _places(few: Sequence[object], many: Sequence[object]) -> list[int]:
    """Return for every event of the shorter list the level after its like in the longer one."""
    more = len(many) - len(few)
    num_alike, num_at_end = _num_alike(few, many), _num_alike(few[::-1], many[::-1])
    first_at_end = len(few) - num_at_end
    if more >= 0 and num_alike >= first_at_end:
        middle = (num_alike + first_at_end + 1) // 2
        return [index + 1 + (0 if index < middle else more) for index in range(len(few))]
    for between in range(1, more):
        shifted = many[between:]
        start = num_alike
        while start and few[start - 1] == shifted[start - 1]:
            start -= 1
        end = num_alike + _num_alike(few[num_alike:], shifted[num_alike:])
        if start < num_alike and end > first_at_end:
            first, second = (start + num_alike + 1) // 2, (first_at_end + end + 1) // 2
            return [
                index + 1 + (0 if index < first else between if index < second else more)
                for index in range(len(few))
            ]
    raise NotAlike(f"{num_alike} and {num_at_end} of {len(few)} events are alike")


def _joined_level(few: Level, many: Level) -> Level:
    return joined(few[0], many[0]), joined(few[1], many[1])


def joined(few: Form, many: Form) -> dict[str, int]:
    """Return the form for any number of chunks that gives both."""
    found: dict[str, int] = {}
    for name in {**few, **many}:
        before, after = few.get(name, 0), many.get(name, 0)
        each, rest = divmod(after - before, MANY - FEW)
        if rest:
            raise NotAlike(f"{name} grows by {after - before}")
        _add(found, name, before - FEW * each)
        if each:
            _add(found, *_of_all_chunks(name, each))
    return {name: count for name, count in found.items() if count}


def _of_all_chunks(name: str, each: int) -> tuple[str, int]:
    if name.startswith("Bc*"):
        return f"T*{name.removeprefix('Bc*')}", each
    if name == "C" and each % CHUNK == 0:
        return "L*1", each // CHUNK
    if name not in GROWS_INTO:
        raise NotAlike(f"{name} grows with the chunks")
    return GROWS_INTO[name], each


def _add(total: dict[str, int], name: str, count: int) -> None:
    total[name] = total.get(name, 0) + count


def _changes(levels: Sequence[Level]) -> list[tuple[tuple[str, int], ...]]:
    """Return what every event changed, as far as the number of chunks does not show in it."""
    found = []
    for before, after in pairwise(levels):
        change: list[tuple[str, int]] = []
        for old, new in zip(before, after, strict=True):
            change += _difference(old, new)
        found.append(tuple(sorted(change)))
    return found


def _difference(old: Mapping[str, int], new: Mapping[str, int]) -> list[tuple[str, int]]:
    names = [name for name in {**old, **new} if name != "C"]
    return [
        (name, new.get(name, 0) - old.get(name, 0))
        for name in names
        if new.get(name, 0) != old.get(name, 0)
    ]


def _num_alike(some: Sequence[object], others: Sequence[object]) -> int:
    for index, (one, other) in enumerate(zip(some, others, strict=False)):
        if one != other:
            return index
    return min(len(some), len(others))
