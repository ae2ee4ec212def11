"""The conditions that say which layer is of which kind, found among all simple ones: those that no model contradicts."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from preflight.models.families.layer_rules import Places
from preflight.values import dataclass

MOST_PERIOD = 9
OF_PLACES = (
    "layer", "period", "offset", "every", "interval", "pattern", "freq", "replace", "sparse_step",
)  # fmt: skip
"""Parts of the names of numbers that say which layers are meant."""
MOST_ATOMS = 100
"""That conditions of three are looked for among: those that hold of the fewest layers."""


class NoRule(Exception):
    """No simple condition tells the layers apart."""


@dataclass(frozen=True)
class Labelled:
    """One model: its config's values, and what every layer of it is."""

    values: Mapping[str, Any]
    labels: tuple[Hashable, ...]

    @property
    def places(self) -> Places:
        return Places(self._number, self.values.get, len(self.labels))

    def _number(self, name: str) -> int:
        value = self.values.get(name)
        return int(value) if isinstance(value, (int, float)) else 0


def rule_of(models: Sequence[Labelled], without: str = "") -> list[list[Any]]:
    """Return pairs of condition and label that hold in all models; a list that is itself looked for is not asked."""
    counts: dict[Hashable, int] = {}
    for model in models:
        for label in model.labels:
            counts[label] = counts.get(label, 0) + 1
    order = sorted(counts, key=lambda label: counts[label])
    left = [
        (model.places, place, label) for model in models for place, label in enumerate(model.labels)
    ]
    atoms = list(_atoms(models, without))
    rule: list[list[Any]] = []
    table = {id(atom): _truths(atom, left) for atom in atoms}
    keep = (1 << len(left)) - 1
    while len(order) > 1:
        found = _next(order, atoms, table, left, keep)
        if found is None:
            raise NoRule(f"{len(order)} kinds of layers have no rule")
        condition, label, selected = found
        rule.append([condition, label])
        order.remove(label)
        keep &= ~selected
    return [*rule, [[], order[0]]]


Left = Sequence[tuple[Places, int, Hashable]]


def _truths(atom: Any, left: Left) -> int:
    bits = 0
    for index, (places, place, _) in enumerate(left):
        if places.holds([atom], place):
            bits |= 1 << index
    return bits


def _next(
    order: Sequence[Hashable], atoms: Sequence[Any], table: Mapping[int, int], left: Left, keep: int
) -> tuple[list[Any], Hashable, int] | None:
    wanted = {
        label: sum(1 << i for i, (_, _, own) in enumerate(left) if own == label) for label in order
    }
    for label in order:
        for atom in atoms:
            if table[id(atom)] & keep == wanted[label]:
                return [atom], label, wanted[label]
    for label in order:
        useful = [a for a in atoms if not wanted[label] & ~table[id(a)]]
        for one, two in combinations(useful, 2):
            if table[id(one)] & table[id(two)] & keep == wanted[label]:
                return [one, two], label, wanted[label]
        distinct = {table[id(atom)] & keep: atom for atom in reversed(useful)}
        narrowest = sorted(distinct, key=int.bit_count)[:MOST_ATOMS]
        for three in combinations([distinct[bits] for bits in narrowest], 3):
            bits = keep
            for atom in three:
                bits &= table[id(atom)]
            if bits == wanted[label]:
                return list(three), label, wanted[label]
    return None


def _atoms(models: Sequence[Labelled], without: str) -> Iterator[Any]:
    """Yield conditions, the likeliest first: lists of the config, then its numbers, then numbers of nobody's."""
    names = dict.fromkeys(name for model in models for name in model.values if name != without)
    numbers: list[str] = []
    for name in names:
        seen = [model.values.get(name) for model in models]
        lists = [v for v in seen if isinstance(v, (list, tuple))]
        if lists:
            by_place = any(
                len(v) == len(model.labels)
                for model, v in zip(models, seen, strict=True)
                if isinstance(v, (list, tuple))
            )
            values = dict.fromkeys(
                item for v in lists for item in v if isinstance(item, (str, bool, int)) or item == 0
            )
            if by_place and len(values) < MOST_PERIOD:
                for value in values:
                    yield ["in", name, value]
                    yield ["not", ["in", name, value]]
            if all(isinstance(i, int) and not isinstance(i, bool) for v in lists for i in v):
                yield ["has", name]
                yield ["not", ["has", name]]
        elif all(isinstance(v, bool) or v is None for v in seen) and len(set(seen)) > 1:
            yield ["is", name, True]
            yield ["not", ["is", name, True]]
        elif all(_is_small(v) for v in seen if v is not None) and any(seen):
            if any(part in name for part in OF_PLACES):
                numbers.append(name)
            for value in (0, 1):
                if "expert" in name and value in seen:
                    yield ["more", name, value]
                    yield ["not", ["more", name, value]]
            if None in seen:
                yield ["is", name, None]
                yield ["not", ["is", name, None]]
    for name in numbers:
        yield ["from", name]
        yield ["not", ["from", name]]
        for shift in (0, 1, *(n for n in numbers if n != name)):
            for remainder in (0, *(n for n in numbers if n != name and shift == 0), f"{name} + -1"):
                yield ["every", name, remainder, shift]
                yield ["not", ["every", name, remainder, shift]]
    for first in range(1, 5):
        yield ["from", first]
        yield ["not", ["from", first]]
    for period in range(2, MOST_PERIOD):
        for remainder in range(period):
            yield ["every", period, remainder, 0]
            yield ["not", ["every", period, remainder, 0]]


def _is_small(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 40
