"""What a training step allocated and freed, in order, and how much was alive in each part of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field

from preflight.values import dataclass

INPUTS = "inputs"
PRELUDE = "embedding_forward"
LAYER_FORWARD = "layer_forward"
LOSS = "loss_forward"
REGION_END = "autocast_end"
"""Leaving autocast: its copies of weights are freed."""
OUTPUTS = "outputs_forward"
"""Casting the outputs, after autocast."""
LOSS_BACKWARD = "loss_backward"
LAYER_BACKWARD = "layer_backward"
EMBEDDING_BACKWARD = "embedding_backward"
CLIP = "clip"
OPTIMIZER = "optimizer"
ZERO = "zero_grad"
END = "end"

PARAMETERS = "parameters"
BUFFERS = "buffers"
GRADIENTS = "gradients"
OPTIMIZER_STATES = "optimizer states"
ACTIVATIONS = "activations"
LOGITS = "logits and loss"
GATHERED = "gathered parameters"
REDUCED = "gradients being reduced"
WEIGHT_COPIES = "autocast copies of weights"
TEMPORARIES = "temporaries"
INPUT_IDS = "inputs"
BUCKETS = "DDP buckets"
HOST = "host"
"""Not on the device: the step counters of an optimizer that is not fused."""


@dataclass(frozen=True)
class Part:
    """A stretch of a training step between two marks."""

    step: int
    micro: int
    """Which micro step of an accumulated one."""
    name: str
    layer: int = -1

    @property
    def where(self) -> str:
        """The part in words: `layer_backward 79`."""
        return self.name if self.layer < 0 else f"{self.name} {self.layer}"


START = Part(-1, 0, "start")

FREEING = frozenset({REGION_END, END})
"""Parts in which nothing is allocated, so that the order of frees does not matter."""

Bytes = dict[tuple[str, str], int]
"""(category, operation that allocated) -> bytes."""


@dataclass(frozen=True)
class PartBytes:
    """Bytes alive at a part's peak and at its end, as differences from when it began."""

    part: Part
    at_peak: Bytes
    at_end: Bytes
    freed_of_layers: Mapping[int, Bytes] = field(default_factory=dict)
    """What a part that only frees gave back of each layer's; it is in `at_end` too."""


class AllocationLog:
    """Every allocation and free in order, with marks between them: enough to replay an allocator on."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.categories: list[str] = []
        """By allocation; empty until somebody knows, and then settled from where it was made."""
        self.operations: list[str] = []
        self.events: list[int] = []
        """An allocation's number, or its bitwise complement when it is freed."""
        self.marks: list[tuple[int, Part]] = [(0, START)]
        self.part = START

    def allocate(self, num_bytes: int, operation: str, category: str) -> int:
        """Note an allocation; return its number."""
        number = len(self.sizes)
        self.sizes.append(num_bytes)
        self.operations.append(operation)
        self.categories.append(category)
        self.events.append(number)
        return number

    def free(self, number: int) -> None:
        """Note that an allocation is gone."""
        self.events.append(~number)

    def mark(self, part: Part) -> None:
        """Begin a part."""
        self.part = part
        self.marks.append((len(self.events), part))

    def parts(self) -> list[PartBytes]:
        """Return every part with what it added at its peak and at its end; the first is the start."""
        categories, made = self._settled()
        ends = [begin for begin, _ in self.marks[1:]] + [len(self.events)]
        return [
            self._part(part, begin, end, categories, made)
            for (begin, part), end in zip(self.marks, ends, strict=True)
        ]

    def changes(self) -> Iterator[tuple[Part, list[tuple[int, int]]]]:
        """Yield every part with its (allocation, +1 or -1) in order; host memory is left out."""
        categories, _ = self._settled()
        ends = [begin for begin, _ in self.marks[1:]] + [len(self.events)]
        for (begin, part), end in zip(self.marks, ends, strict=True):
            yield part, [(n, sign) for _, n, sign in self._changes(begin, end, categories)]

    def settled_categories(self) -> list[str]:
        """Return the category of every allocation."""
        return self._settled()[0]

    def _part(
        self, part: Part, begin: int, end: int, categories: list[str], made: list[int]
    ) -> PartBytes:
        now = highest = 0
        peak = begin
        for at, number, sign in self._changes(begin, end, categories):
            now += sign * self.sizes[number]
            if now > highest:
                highest, peak = now, at + 1
        at_peak: Bytes = {}
        at_end: Bytes = {}
        freed: dict[int, Bytes] = {}
        for at, number, sign in self._changes(begin, end, categories):
            key = (categories[number], self.operations[number])
            change = sign * self.sizes[number]
            at_end[key] = at_end.get(key, 0) + change
            if at < peak:
                at_peak[key] = at_peak.get(key, 0) + change
            layer = self.marks[made[number]][1].layer
            if part.name in FREEING and layer >= 0:
                of_layer = freed.setdefault(layer, {})
                of_layer[key] = of_layer.get(key, 0) + change
        return PartBytes(part, _without_zeros(at_peak), _without_zeros(at_end), freed)

    def _changes(
        self, begin: int, end: int, categories: list[str]
    ) -> Iterator[tuple[int, int, int]]:
        for at in range(begin, end):
            event = self.events[at]
            number, sign = (event, 1) if event >= 0 else (~event, -1)
            if categories[number] != HOST:
                yield at, number, sign

    def _settled(self) -> tuple[list[str], list[int]]:
        """Return the category of every allocation and the mark it was made after.

        What nobody named is known by where it was made and lived.
        """
        made = [0] * len(self.sizes)
        gone: dict[int, int] = {}
        index = -1
        starts = [begin for begin, _ in self.marks]
        for at, event in enumerate(self.events):
            while index + 1 < len(starts) and starts[index + 1] <= at:
                index += 1
            if event >= 0:
                made[event] = index
            else:
                gone[~event] = index
        settled = list(self.categories)
        for number, category in enumerate(settled):
            if not category:
                part = self.marks[made[number]][1]
                passing = gone.get(number, -1) == made[number]
                settled[number] = _category_of(part.name, passing)
        return settled, made


def _category_of(part: str, is_passing: bool) -> str:
    if part == INPUTS:
        return INPUT_IDS
    if part in (LOSS, OUTPUTS, LOSS_BACKWARD):
        return LOGITS
    if part in (PRELUDE, LAYER_FORWARD) and not is_passing:
        return ACTIVATIONS
    return TEMPORARIES


def add(total: Bytes, change: Bytes) -> Bytes:
    """Return a level with a change added."""
    result = dict(total)
    for key, num_bytes in change.items():
        result[key] = result.get(key, 0) + num_bytes
    return result


def _without_zeros(level: Bytes) -> Bytes:
    return {key: num_bytes for key, num_bytes in level.items() if num_bytes}
