"""A trace by phase, in the words of the memory estimate, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from preflight.memory import Phase
from preflight.trace.compose import Level
from preflight.trace.log import (
    CLIP,
    EMBEDDING_BACKWARD,
    INPUTS,
    LAYER_BACKWARD,
    LAYER_FORWARD,
    LOSS,
    LOSS_BACKWARD,
    OPTIMIZER,
    OUTPUTS,
    PRELUDE,
    REGION_END,
    ZERO,
)
from preflight.trace.timeline import TracedPart, part_from_dict
from preflight.values import dataclass

PHASE_PARTS: dict[Phase, tuple[str, ...]] = {
    Phase.FORWARD: (INPUTS, PRELUDE, LAYER_FORWARD),
    Phase.LOSS: (LOSS, REGION_END, OUTPUTS, LOSS_BACKWARD),
    Phase.BACKWARD: (LAYER_BACKWARD, EMBEDDING_BACKWARD),
    Phase.OPTIMIZER_STEP: (CLIP, OPTIMIZER, ZERO),
}
NUM_OPERATIONS = 40
"""Of a phase's peak, largest first; the rest is what an estimate cannot be wrong about by much."""


@dataclass(frozen=True)
class TracedPhase:
    """The peak of one phase, and what is alive at it."""

    phase: Phase
    num_bytes: int
    where: str
    """The part of the step: `layer_backward 79`."""
    operations: tuple[tuple[str, str, int], ...]
    """(category, operation that allocated, bytes), largest first."""

    @property
    def categories(self) -> dict[str, int]:
        """Bytes by category, largest first."""
        total: dict[str, int] = {}
        for category, _, num_bytes in self.operations:
            total[category] = total.get(category, 0) + num_bytes
        return dict(sorted(total.items(), key=lambda item: -item[1]))


@dataclass(frozen=True)
class TraceResult:
    """Every traced phase of one rank."""

    phases: tuple[TracedPhase, ...]
    timeline: tuple[TracedPart, ...]
    """Every part of both steps, in order."""
    num_layers: int
    num_traced_layers: int
    seconds: float
    versions: Mapping[str, str]
    traced_on: str = ""
    """The day: `2026-01-31`."""
    is_cached: bool = False

    @property
    def peak(self) -> TracedPhase:
        """The phase with the most bytes (the first of equals)."""
        return max(self.phases, key=lambda phase: phase.num_bytes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "phases": [
                {
                    "phase": traced.phase.value,
                    "num_bytes": traced.num_bytes,
                    "where": traced.where,
                    "categories": traced.categories,
                    "operations": [list(operation) for operation in traced.operations],
                }
                for traced in self.phases
            ],
            "timeline": [part.to_dict() for part in self.timeline],
            "num_layers": self.num_layers,
            "num_traced_layers": self.num_traced_layers,
            "seconds": self.seconds,
            "versions": dict(self.versions),
            "traced_on": self.traced_on,
        }


def result_from_dict(values: Mapping[str, Any], is_cached: bool = False) -> TraceResult:
    """Build a result from `to_dict()` after JSON."""
    phases = tuple(
        TracedPhase(
            Phase(entry["phase"]),
            entry["num_bytes"],
            entry["where"],
            tuple((category, name, size) for category, name, size in entry["operations"]),
        )
        for entry in values["phases"]
    )
    return TraceResult(
        phases,
        tuple(map(part_from_dict, values["timeline"])),
        values["num_layers"],
        values["num_traced_layers"],
        values["seconds"],
        values["versions"],
        values["traced_on"],
        is_cached,
    )


def traced_phases(levels: Iterable[Level]) -> tuple[TracedPhase, ...]:
    """Return the highest level of every phase.

    The first step is forward, loss and backward; the second step is those of any later one. The
    optimizer's phase is the higher of both: the first creates the states beside its temporaries.
    """
    levels = list(levels)
    found = []
    for phase in Phase:
        parts = PHASE_PARTS.get(phase, ())
        if phase is Phase.SECOND_STEP:
            parts = tuple(
                name
                for other, names in PHASE_PARTS.items()
                if other is not Phase.OPTIMIZER_STEP
                for name in names
            )
        steps = {Phase.SECOND_STEP: (1,), Phase.OPTIMIZER_STEP: (0, 1)}.get(phase, (0,))
        alive = [a for a in levels if a.part.name in parts and a.part.step in steps]
        if alive:
            found.append(_traced(phase, max(alive, key=lambda level: level.peak_bytes)))
    return tuple(found)


def _traced(phase: Phase, level: Level) -> TracedPhase:
    by_size = sorted(level.at_peak.items(), key=lambda item: -item[1])
    shown = [(c, o, size) for (c, o), size in by_size[:NUM_OPERATIONS] if size]
    rest: dict[str, int] = {}
    for (category, _), size in by_size[NUM_OPERATIONS:]:
        rest[category] = rest.get(category, 0) + size
    shown += [(category, "others", size) for category, size in rest.items() if size]
    return TracedPhase(phase, level.peak_bytes, level.part.where, tuple(shown))
