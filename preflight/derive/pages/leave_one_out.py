"""How far predictions are off where whatever was fitted is fitted again without the source that is scored.

Fitted are the CUDA context and the buffers of NCCL's first group, medians over sources (preflight/formulas/outside_torch.py), and
the margin of `fits`, a quantile over measured runs (preflight/verdict.py). The rest is derived, and no source
changes any of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from preflight.formulas.outside_torch import CONTEXT_SOURCES_GIB, NCCL_SOURCES_GIB
from preflight.studies.accuracy import quantile
from preflight.studies.validate import Validation
from preflight.units import GIB
from preflight.values import dataclass

LEAST_SHARE = 0.5
"""Of the capacity: below half a card nobody asks whether a launch fits, and the context alone is a tenth of the peak."""
LEAST_RUNS = 10
"""Runs that an engine needs to say that it needs more than all engines do."""
COVERED = 0.9
STEP = 0.005


@dataclass(frozen=True)
class Compared:
    """What one run measured at the highest level that it has, and what was predicted."""

    id: str
    group: str
    engine: str
    counter: str
    world_size: int
    measured_bytes: int
    predicted_bytes: int
    """With what is fitted to all sources."""
    capacity_bytes: int

    @property
    def is_full(self) -> bool:
        return self.measured_bytes >= LEAST_SHARE * self.capacity_bytes

    @property
    def error(self) -> float:
        """The relative error, with what is fitted to all sources."""
        return (self.predicted_bytes - self.measured_bytes) / self.measured_bytes

    @property
    def error_without(self) -> float:
        """The relative error with what is fitted to all sources but its own."""
        more = 0
        if self.counter == "device":
            more = _moved(CONTEXT_SOURCES_GIB, self.group)
            more += _moved(NCCL_SOURCES_GIB, self.group) if self.world_size > 1 else 0
        return (self.predicted_bytes + more - self.measured_bytes) / self.measured_bytes

    @property
    def shortfall(self) -> float:
        """The share of such a prediction that is missing; 0 where it is large enough."""
        error = self.error_without
        return max(0.0, -error / (1 + error))


def _moved(sources: Mapping[str, float], group: str) -> int:
    """Return by how much a median moves where one source is left out."""
    rest = median(gib for name, gib in sources.items() if name != group)
    return int((rest - median(sources.values())) * GIB)


def compared_runs(validation: Validation) -> tuple[Compared, ...]:
    """Return the scored runs with a peak beyond live tensors, each at its highest counter."""
    highest: dict[str, Compared] = {}
    for v in validation.scored_by_counter:
        if v.error is None or v.device is None or v.run.counter not in ("reserved", "device"):
            continue
        if v.run.id in highest and v.run.counter != "device":
            continue
        highest[v.run.id] = Compared(
            v.run.id,
            v.run.group,
            v.run.plan.engine,
            v.run.counter,
            v.run.plan.world_size,
            v.run.measured_bytes or 0,
            v.predicted_bytes or 0,
            v.device.capacity_bytes,
        )
    return tuple(highest.values())


def margin_of(engine: str, runs: Sequence[Compared], without: str | None = None) -> float:
    """Return the share of the card that nine of ten predictions stay below, in half percents.

    It is that of all engines, and the engine's own where enough of its runs say that it is larger.
    """
    full = [run for run in runs if run.is_full and run.group != without]
    own = [run for run in full if run.engine == engine]
    parts = [full, own] if len(own) >= LEAST_RUNS else [full]
    shares = (quantile([run.shortfall for run in part], COVERED) for part in parts)
    return math.ceil(max(shares) / STEP) * STEP


@dataclass(frozen=True)
class LeftOut:
    """A source, scored with what is fitted to the others."""

    group: str
    engine: str
    counter: str
    num_runs: int
    error_in_sample: float
    error_out_of_sample: float
    margin: float
    num_full: int
    num_covered: int
    """Of the full ones: their shortfall is within the margin that the others give."""


def left_out(runs: Sequence[Compared]) -> Iterator[LeftOut]:
    """Yield every source by engine, scored with what is fitted to the others."""
    parts: dict[tuple[str, str, str], list[Compared]] = {}
    for run in runs:
        parts.setdefault((run.group, run.engine, run.counter), []).append(run)
    for (group, engine, counter), part in sorted(parts.items()):
        margin = margin_of(engine, runs, group)
        full = [run for run in part if run.is_full]
        yield LeftOut(
            group,
            engine,
            counter,
            len(part),
            median(abs(run.error) for run in part),
            median(abs(run.error_without) for run in part),
            margin,
            len(full),
            sum(run.shortfall <= margin for run in full),
        )
