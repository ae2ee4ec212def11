"""What one rank of a run really took, as it is written down: peaks by phase, beside what was predicted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, fields
from typing import Any

from preflight.values import dataclass

SCHEMA = 1
MOST = 1 << 53
"""Of anything counted here: 8 PiB, and what JSON keeps exactly."""
COUNTERS = ("allocated", "reserved", "device")

RUNNING, DONE, OOM, FAILED = "running", "done", "oom", "failed"
OUTCOMES = (RUNNING, DONE, OOM, FAILED)
"""A record that still says `running` is of a process that never got to say how it ended."""


@dataclass(frozen=True)
class RunRecord:
    """One rank of one run. Peaks are bytes by counter; a counter that the device has not is left out."""

    run_id: str
    rank: int
    world_size: int
    host: str
    started: str
    """UTC, ISO 8601."""
    outcome: str = RUNNING
    ended: str = ""
    num_steps: int = 0
    failed_phase: str = ""
    error: str = ""
    """Name of the class of the exception that ended it; what it said is not kept."""
    device: Mapping[str, Any] = field(default_factory=dict)
    """name, kind (cuda, cpu), capacity_bytes, and who counted."""
    phases: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Phase -> counter -> peak."""
    host_peak_bytes: int = 0
    """Of this process."""
    outside_bytes: int | None = None
    """What the driver showed in use beyond what torch had reserved: context, NCCL, other processes."""
    predicted: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """As `phases`."""
    predicted_runtime: Mapping[str, int] = field(default_factory=dict)
    """Term outside torch -> bytes, as the formulas have them without a site's correction."""
    verdict: str = ""
    plan: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def peak(self, counter: str) -> int | None:
        """Return the largest measured value of a counter over phases."""
        return _most(self.phases, counter)

    def predicted_peak(self, counter: str) -> int | None:
        return _most(self.predicted, counter)

    @property
    def peak_phase(self) -> str:
        """The phase with the most live tensors."""
        return max(self.phases, key=lambda name: self.phases[name].get("allocated", 0), default="")

    @property
    def device_class(self) -> str:
        """What runs must share to say something of each other's runtime terms."""
        return str(self.device.get("name") or "")

    def to_dict(self) -> dict[str, Any]:
        """Return the record as one JSON line holds it."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {"schema": SCHEMA, **values}


def record_from_dict(value: Any) -> RunRecord | None:
    """Return the record of one line; None for what is no record of this schema."""
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        return None
    given = {name: value[name] for name in _IS if name in value}
    if not all(_IS[name](item) for name, item in given.items()):
        return None
    try:
        return RunRecord(**given)
    except TypeError:  # one that must be there is not
        return None


def is_count(value: Any) -> bool:
    """Tell whether a value is a whole number that something can be counted or measured in."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(is_count, value.values()))


def _are_peaks(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_are_counts, value.values()))


def _is_device(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("name", ""), (str, type(None)))
        and (value.get("capacity_bytes") is None or is_count(value["capacity_bytes"]))
    )


_IS: Mapping[str, Callable[[Any], bool]] = {
    "run_id": _is_text,
    "rank": is_count,
    "world_size": is_count,
    "host": _is_text,
    "started": _is_text,
    "outcome": lambda value: isinstance(value, str) and value in OUTCOMES,
    "ended": _is_text,
    "num_steps": is_count,
    "failed_phase": _is_text,
    "error": _is_text,
    "device": _is_device,
    "phases": _are_peaks,
    "host_peak_bytes": is_count,
    "outside_bytes": lambda value: value is None or is_count(value),
    "predicted": _are_peaks,
    "predicted_runtime": _are_counts,
    "verdict": _is_text,
    "plan": lambda value: isinstance(value, dict),
    "versions": lambda value: isinstance(value, dict) and all(map(_is_text, value.values())),
}
"""Field -> whether a value can be one. A line is of whoever may write there: a wrong one is passed over, never met later."""


def _most(phases: Mapping[str, Mapping[str, int]], counter: str) -> int | None:
    values = [peaks[counter] for peaks in phases.values() if counter in peaks]
    return max(values, default=None)
