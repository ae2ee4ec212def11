"""The timeline of a trace: what is alive at the peak and at the end of every part of both steps, by category."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from preflight.trace.compose import Level
from preflight.trace.log import Bytes, Part
from preflight.values import dataclass


@dataclass(frozen=True)
class TracedPart:
    """Bytes by category at the peak and at the end of one part, largest first."""

    part: Part
    at_peak: Mapping[str, int]
    at_end: Mapping[str, int]

    @property
    def peak_bytes(self) -> int:
        return sum(self.at_peak.values())

    @property
    def end_bytes(self) -> int:
        return sum(self.at_end.values())

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; a part that is of no layer has none."""
        return {
            "step": self.part.step,
            "micro_step": self.part.micro,
            "name": self.part.name,
            "layer": None if self.part.layer < 0 else self.part.layer,
            "peak_bytes": self.peak_bytes,
            "end_bytes": self.end_bytes,
            "at_peak": dict(self.at_peak),
            "at_end": dict(self.at_end),
        }


def part_from_dict(values: Mapping[str, Any]) -> TracedPart:
    """Build a part from `to_dict()` after JSON."""
    layer = -1 if values["layer"] is None else values["layer"]
    part = Part(values["step"], values["micro_step"], values["name"], layer)
    return TracedPart(part, values["at_peak"], values["at_end"])


def timeline_of(levels: Iterable[Level]) -> tuple[TracedPart, ...]:
    """Return every part of both steps, in order."""
    return tuple(
        TracedPart(level.part, _by_category(level.at_peak), _by_category(level.at_exit))
        for level in levels
    )


def _by_category(level: Bytes) -> dict[str, int]:
    total: dict[str, int] = {}
    for (category, _), num_bytes in level.items():
        total[category] = total.get(category, 0) + num_bytes
    by_size = sorted(total.items(), key=lambda item: -item[1])
    return {category: num_bytes for category, num_bytes in by_size if num_bytes}
