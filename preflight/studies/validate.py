"""Predicted against measured: every run of a file estimated, its error, and the wrong verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from preflight.device import DeviceSpec
from preflight.errors import BadInput
from preflight.judge import judge_plan
from preflight.libraries.of_plan import with_open_versions
from preflight.memory import Level, MemoryEstimate, MemoryTerm, PhasePeak
from preflight.plugin_manager import PluginManager
from preflight.policy import Policy
from preflight.records.site_correction import uncorrected
from preflight.report import SCHEMA_VERSION
from preflight.studies.accuracy import ErrorSummary, summarize_errors
from preflight.studies.measured import COUNTERS, MeasuredRun
from preflight.units import GIB
from preflight.values import dataclass
from preflight.verdict import Answer

LEVELS_OF = {
    "allocated": (Level.ALLOCATED,),
    "reserved": (Level.ALLOCATED, Level.RESERVED),
    "device": (Level.ALLOCATED, Level.RESERVED, Level.DEVICE),
}
"""Counter -> the levels whose terms it counts."""


@dataclass(frozen=True)
class ValidatedRun:
    """A run beside its prediction."""

    run: MeasuredRun
    answer: Answer
    predicted: Mapping[str, int]
    """Counter -> the peak of the level of its name; empty where there is no estimate."""
    reason: str = ""
    """Why there is no estimate."""
    estimate: MemoryEstimate | None = None
    """Where the prediction comes from; a lower bound where `predicted` is empty."""
    device: DeviceSpec | None = None

    @property
    def predicted_bytes(self) -> int | None:
        return self.predicted.get(self.run.counter or "")

    @property
    def peak(self) -> PhasePeak | None:
        """The phase that makes the prediction of the run's counter (of allocated where it has none)."""
        if not self.predicted or self.estimate is None:
            return None
        level = self.run.counter if self.run.counter in COUNTERS else "allocated"
        return max(self.estimate.peaks, key=lambda peak: getattr(peak, f"{level}_bytes"))

    @property
    def terms(self) -> tuple[MemoryTerm, ...]:
        """The terms that make the prediction, largest first."""
        peak = self.peak
        if peak is None or self.estimate is None:
            return ()
        levels = LEVELS_OF.get(self.run.counter or "", LEVELS_OF["allocated"])
        alive = self.estimate.terms_of(peak)
        return tuple(term for term in alive if term.level in levels and term.num_bytes)

    @property
    def is_capped(self) -> bool:
        """Whether the prediction ends at the capacity of the device."""
        if self.estimate is None or self.predicted_bytes is None:
            return False
        return self.predicted_bytes < levels_of(self.estimate)[self.run.counter or ""]

    @property
    def needed_bytes(self) -> int | None:
        """What the verdict holds against the capacity: live tensors and what lies outside torch."""
        if not self.predicted or self.estimate is None:
            return None
        return self.estimate.needed_bytes

    @property
    def error(self) -> float | None:
        """(predicted - measured) / measured; None where the two are not the same counter."""
        return _error(self.predicted_bytes, self.run.measured_bytes)

    def by_counter(self) -> Iterator[ValidatedRun]:
        """Yield the run once for each counter that it has, the one that its file names first."""
        yield self
        for counter, num_bytes in (self.run.other_counters or {}).items():
            run = replace(self.run, counter=counter, measured_bytes=num_bytes, other_counters=None)
            yield replace(self, run=run)

    @property
    def is_false_fit(self) -> bool:
        """It died, and fits was predicted. Tight is not false: it says so."""
        return self.run.outcome == "oom" and self.answer is Answer.FITS

    @property
    def is_false_block(self) -> bool:
        """It ran, and would have been refused."""
        return self.run.outcome != "oom" and self.answer is Answer.DOES_NOT_FIT

    def to_dict(self) -> dict[str, Any]:
        """Return the run as `runs` of the JSON contract lists it."""
        run = self.run
        return {
            "id": run.id,
            "group": run.group,
            "engine": run.plan.engine,
            "counter": run.counter,
            "measured_bytes": run.measured_bytes,
            "predicted_bytes": self.predicted_bytes,
            "error": self.error,
            "outcome": run.outcome,
            "verdict": self.answer.value,
            "scored": run.is_scored,
            "not_scored_because": run.not_scored_because,
            "reason": self.reason,
            "peak_phase": self.peak.phase.value if self.peak else None,
            "is_capped": self.is_capped,
            "other_counters": {
                counter: {
                    "measured_bytes": measured,
                    "predicted_bytes": self.predicted.get(counter),
                    "error": _error(self.predicted.get(counter), measured),
                }
                for counter, measured in (run.other_counters or {}).items()
            },
        }


def _error(predicted: int | None, measured: int | None) -> float | None:
    if predicted is None or not measured:
        return None
    return (predicted - measured) / measured


@dataclass(frozen=True)
class Validation:
    """All runs of a file beside their predictions."""

    runs: tuple[ValidatedRun, ...]

    @property
    def scored(self) -> tuple[ValidatedRun, ...]:
        return tuple(validated for validated in self.runs if validated.run.is_scored)

    @property
    def compared(self) -> tuple[ValidatedRun, ...]:
        """Every run once for each counter that it has."""
        return tuple(one for validated in self.runs for one in validated.by_counter())

    @property
    def scored_by_counter(self) -> tuple[ValidatedRun, ...]:
        """Every scored run once for each counter that it has."""
        return tuple(one for one in self.compared if one.run.is_scored)

    def summary_of(self, counter: str) -> ErrorSummary:
        """Summarize what scored runs measured of one counter."""
        return summarize([v for v in self.scored_by_counter if v.run.counter == counter])

    def worst_first(self, runs: Sequence[ValidatedRun]) -> list[ValidatedRun]:
        """Return the runs that have an error, the largest one first."""
        return sorted((v for v in runs if v.error is not None), key=lambda v: -abs(v.error or 0))

    @property
    def false_fits(self) -> tuple[ValidatedRun, ...]:
        return tuple(validated for validated in self.scored if validated.is_false_fit)

    @property
    def false_blocks(self) -> tuple[ValidatedRun, ...]:
        return tuple(validated for validated in self.scored if validated.is_false_block)

    def explained(self, num_worst: int) -> list[ValidatedRun]:
        """Return the wrong verdicts and the worst scored runs."""
        worst = self.worst_first(self.scored_by_counter)[:num_worst]
        return [*self.false_fits, *self.false_blocks, *worst]

    def to_dict(self, num_worst: int = 0) -> dict[str, Any]:
        """Return the validation as the JSON of the contract (schema_version 1).

        With `num_worst`, the runs that are explained have their terms beside it, as in the text.
        """
        counters = [c for c in COUNTERS if self.summary_of(c).num_runs]
        return {
            "schema_version": SCHEMA_VERSION,
            "runs": [one.to_dict() for one in self.compared],
            "summary": {
                **{counter: self.summary_of(counter).to_dict() for counter in counters},
                "false_fits": len(self.false_fits),
                "false_blocks": len(self.false_blocks),
            },
            **({"worst": self._worst_to_list(num_worst)} if num_worst else {}),
        }

    def _worst_to_list(self, num_worst: int) -> list[dict[str, Any]]:
        return [
            {
                "id": v.run.id,
                "counter": v.run.counter,
                "terms": [
                    {"name": term.name, "num_bytes": term.num_bytes, "formula": term.formula}
                    for term in v.terms
                ],
            }
            for v in self.explained(num_worst)
        ]


def validate_runs(
    runs: Sequence[MeasuredRun],
    plugins: PluginManager,
    progress: Callable[[int], None] = lambda done: None,
) -> Validation:
    """Estimate every run; `progress` is told how many are done."""
    validated = []
    for index, run in enumerate(runs):
        validated.append(validate_run(run, plugins))
        progress(index + 1)
    return Validation(tuple(validated))


def validate_run(run: MeasuredRun, plugins: PluginManager) -> ValidatedRun:
    """Estimate one run on its device. A run whose model or plan cannot be read is kept, with the reason."""
    plugins.next_answer()
    try:
        device = device_of(run, plugins)
        with uncorrected():
            judged = judge_plan(with_open_versions(run.plan), plugins, Policy(), device=device)
    except BadInput as error:
        return ValidatedRun(run, Answer.UNKNOWN, {}, error.problems[0].message)
    if judged.estimate is None or not judged.estimate.peaks:
        return ValidatedRun(run, judged.verdict.answer, {}, judged.verdict.reason, device=device)
    reason = judged.verdict.reason if judged.verdict.answer is Answer.UNKNOWN else ""
    # A lower bound is no prediction.
    known = {} if judged.estimate.unknown else levels_of(judged.estimate, judged.device)
    return ValidatedRun(
        run, judged.verdict.answer, known, reason, judged.estimate, judged.device or device
    )


def levels_of(estimate: MemoryEstimate, device: DeviceSpec | None = None) -> dict[str, int]:
    """Return counter -> the peak that is compared with it.

    Where live tensors fit a device, it bounds what is reserved: the caching allocator gives its
    free segments back and asks again before it fails (c10/cuda/CUDACachingAllocator.cpp, malloc:
    release_cached_blocks), so a run never holds more than there is.
    """
    levels = {
        "allocated": estimate.allocated_peak_bytes,
        "reserved": estimate.reserved_peak_bytes,
        "device": estimate.device_peak_bytes,
    }
    if device is None or estimate.needed_bytes > device.capacity_bytes:
        return levels
    outside = min(peak.least_outside_bytes for peak in estimate.peaks)
    most = max(levels["allocated"], device.capacity_bytes - outside)
    levels["reserved"] = min(levels["reserved"], most)
    levels["device"] = min(levels["device"], device.capacity_bytes)
    return levels


def device_of(run: MeasuredRun, plugins: PluginManager) -> DeviceSpec | None:
    """Return a run's device: its stated bytes, else the GPU table's entry, else its nominal GiB."""
    name = str(run.device.get("name") or run.device.get("key") or "device")
    capacity = run.device.get("capacity_bytes")
    key = run.device.get("key")
    if capacity is None and key is not None:
        try:
            found = plugins.first(
                "preflight_describe_device", plan=replace(run.plan, device=str(key))
            )
        except BadInput:
            found = None
        if isinstance(found, DeviceSpec):
            return found
    if capacity is None and run.device.get("memory_gb") is not None:
        capacity = int(run.device["memory_gb"] * GIB)
    if capacity is None:
        return None
    return DeviceSpec(name, int(capacity), key=None if key is None else str(key), source="the run")


def summarize(runs: Sequence[ValidatedRun]) -> ErrorSummary:
    """Return the errors of runs that have one, each once and by group."""
    return summarize_errors([(v.run.group, v.error) for v in runs if v.error is not None])
