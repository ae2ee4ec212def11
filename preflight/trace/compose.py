"""The step of a deep model from the step of a shallow one: exact, because layers with equal neighbours cost the same.

A layer's kind is its class, its settings and its tensors' shapes. What it allocates depends on its
kind, on the kinds beside it, and on whether it is the first or the last of its kind: masks and rotary
tables that layers share are freed there. So a shallow model that has every such neighbourhood once
shows every part of the deep one; levels are added up in the deep model's order.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence

from preflight.trace.log import LAYER_BACKWARD, LAYER_FORWARD, ZERO, Bytes, Part, PartBytes, add
from preflight.values import dataclass


@dataclass(frozen=True)
class Depth:
    """Which layers a shallow model keeps, and which of them stands for each layer of the deep one."""

    kept: tuple[int, ...]
    stand_ins: tuple[int, ...]
    """For each deep layer, a position in `kept`."""

    @property
    def num_layers(self) -> int:
        return len(self.stand_ins)

    @property
    def is_full(self) -> bool:
        return len(self.kept) == self.num_layers


@dataclass(frozen=True)
class Level:
    """Bytes alive at the beginning, the peak and the end of one part of the deep step."""

    part: Part
    entry_bytes: int
    peak_bytes: int
    exit_bytes: int
    at_peak: Bytes
    at_exit: Bytes


def full_depth(num_layers: int) -> Depth:
    """Keep every layer."""
    return Depth(tuple(range(num_layers)), tuple(range(num_layers)))


def shallow_depth(kinds: Sequence[Hashable]) -> Depth:
    """Return the shortest beginning and end of the layers that together show every neighbourhood."""
    num = len(kinds)
    tokens = _with_ends(kinds)
    around = [_around(tokens, i) for i in range(num)]
    wanted = set(around)
    for total in range(1, num):
        for head in range(total, 0, -1):
            kept = (*range(head), *range(num - total + head, num))
            shown = [tokens[i] for i in kept]
            found = {_around(shown, i): i for i in range(total - 1, -1, -1)}
            if wanted <= found.keys():
                return Depth(kept, tuple(found[where] for where in around))
    return full_depth(num)


def _with_ends(kinds: Sequence[Hashable]) -> list[Hashable]:
    first: dict[Hashable, int] = {}
    last: dict[Hashable, int] = {}
    for i, kind in enumerate(kinds):
        first.setdefault(kind, i)
        last[kind] = i
    return [(kind, first[kind] == i, last[kind] == i) for i, kind in enumerate(kinds)]


def _around(tokens: Sequence[Hashable], i: int) -> Hashable:
    before = tokens[i - 1] if i else None
    after = tokens[i + 1] if i + 1 < len(tokens) else None
    return before, tokens[i], after


def compose(
    start: Bytes,
    parts: Iterable[PartBytes],
    depth: Depth,
    optimizer_parts: Mapping[int, Sequence[PartBytes]],
) -> list[Level]:
    """Return the level of every part of the deep step.

    `optimizer_parts` of each step replace the shallow model's `zero_grad`: clipping and stepping are
    traced over all parameters, since their bytes depend on the whole list.
    """
    parts = list(parts)
    by_part = {entry.part: entry for entry in parts}
    done: set[tuple[int, int, str]] = set()
    levels: list[Level] = []
    now = start
    for entry in parts:
        part = entry.part
        for piece in _deep(entry, depth, by_part, done, optimizer_parts.get(part.step)):
            entry_bytes = sum(now.values())
            at_peak = add(now, piece.at_peak)
            now = add(now, piece.at_end)
            peak_bytes, exit_bytes = sum(at_peak.values()), sum(now.values())
            levels.append(Level(piece.part, entry_bytes, peak_bytes, exit_bytes, at_peak, now))
    return levels


def _deep(
    entry: PartBytes,
    depth: Depth,
    by_part: Mapping[Part, PartBytes],
    done: set[tuple[int, int, str]],
    stepping: Sequence[PartBytes] | None,
) -> Iterable[PartBytes]:
    part = entry.part
    if part.name == ZERO and stepping is not None:
        return stepping
    if entry.freed_of_layers:
        return [PartBytes(part, entry.at_peak, _freed_of_all(entry, depth))]
    if part.name not in (LAYER_FORWARD, LAYER_BACKWARD):
        return [entry]
    here = (part.step, part.micro, part.name)
    if here in done:
        return []
    done.add(here)
    order = range(depth.num_layers)
    pieces = []
    for i in order if part.name == LAYER_FORWARD else reversed(order):
        shown = by_part.get(Part(part.step, part.micro, part.name, depth.stand_ins[i]))
        if shown is None:  # cross attention to an image is not run on text alone
            continue
        pieces.append(
            PartBytes(Part(part.step, part.micro, part.name, i), shown.at_peak, shown.at_end)
        )
    return pieces


def _freed_of_all(entry: PartBytes, depth: Depth) -> Bytes:
    """Return what a freeing part gives back where every layer left as much as its stand-in did."""
    freed = entry.at_end
    for of_layer in entry.freed_of_layers.values():
        freed = add(freed, {key: -num_bytes for key, num_bytes in of_layer.items()})
    for stand_in in depth.stand_ins:
        freed = add(freed, entry.freed_of_layers.get(stand_in, {}))
    return freed
