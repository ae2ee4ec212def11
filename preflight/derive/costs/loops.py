"""From traces in which a loop turns a few times to forms for any number: over chunks of a sequence, over experts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from preflight.formulas.layers.layer_sizes import Form
from preflight.values import dataclass

Level = tuple[Form, Form]


class NotAlike(Exception):
    """Two traces differ in more than the turns of their loops."""


@dataclass(frozen=True)
class Turns:
    """How often a loop turns in two traces, and what grows with every turn more."""

    few: int
    many: int
    grown: Callable[[str, int], tuple[str, int]]
    """From the name and count of what a turn adds, to those of what all turns add."""


def joined_levels(few: Sequence[Level], many: Sequence[Level], turns: Turns) -> list[Level]:
    """Return the levels of a part for any number of turns.

    The first turns of a loop are those of any loop, and so are its last: levels are matched from the
    beginning and from the end, and what is between them is no higher. A checkpointed layer's backward
    has two loops, and what is between those is matched too.
    """
    places = _places(_changes(few), _changes(many))
    return [
        _joined_level(level, many[place], turns)
        for level, place in zip(few, [0, *places], strict=True)
    ]


def _places(few: Sequence[object], many: Sequence[object]) -> list[int]:
    """Return for every event of the shorter list the level after its like in the longer one.

    Behind a loop its like is so much further as the loop turns more often. Where that begins is in the middle of those
    events of the loop that have a like on either side.
    """
    more = len(many) - len(few)
    places: list[int] = []
    further = 0
    while len(places) < len(few):
        end = len(places) + _num_alike(few, many, len(places), further)
        if further == more and end == len(few):
            return places + [index + further + 1 for index in range(len(places), end)]
        ways = range(further + 1, more + 1) if end < len(few) else (more,)
        reached, start, next_further = max(
            (_reach(few, many, end, one, len(places)) for one in ways), default=(end, end, 0)
        )
        if start == end or reached == end < len(few):
            raise NotAlike(f"{end} of {len(few)} events are alike")
        middle = (start + end + 1) // 2
        places += [index + further + 1 for index in range(len(places), middle)]
        further = -next_further
    return places


def _reach(
    few: Sequence[object], many: Sequence[object], end: int, further: int, begin: int
) -> tuple[int, int, int]:
    """Return up to where events have their likes so much further, from where on they have, and the lesser of equals first."""
    start = end
    while start > begin and few[start - 1] == many[start - 1 + further]:
        start -= 1
    reached = end + _num_alike(few, many, end, further) if start < end else -1
    return reached, start, -further


def _joined_level(few: Level, many: Level, turns: Turns) -> Level:
    return joined(few[0], many[0], turns), joined(few[1], many[1], turns)


def joined(few: Form, many: Form, turns: Turns) -> dict[str, int]:
    """Return the form for any number of turns that gives both."""
    found: dict[str, int] = {}
    for name in {**few, **many}:
        before, after = few.get(name, 0), many.get(name, 0)
        each, rest = divmod(after - before, turns.many - turns.few)
        if rest:
            raise NotAlike(f"{name} grows by {after - before}")
        _add(found, name, before - turns.few * each)
        if each:
            _add(found, *turns.grown(name, each))
    return {name: count for name, count in found.items() if count}


def _add(total: dict[str, int], name: str, count: int) -> None:
    total[name] = total.get(name, 0) + count


def _changes(levels: Sequence[Level]) -> list[tuple[tuple[str, int], ...]]:
    """Return what every event changed, as far as the number of turns does not show in it."""
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


def _num_alike(few: Sequence[object], many: Sequence[object], begin: int, further: int) -> int:
    """Return how many events from a place on have their likes so much further in the longer list."""
    pairs = zip(few[begin:], many[begin + further :], strict=False)
    return next(
        (i for i, (one, other) in enumerate(pairs) if one != other),
        min(len(few) - begin, len(many) - begin - further),
    )
