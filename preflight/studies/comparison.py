"""Two launches side by side: what of their plans differs, and what that does to every phase and every term."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from preflight.devices.step_time import estimate_step_time
from preflight.memory import MemoryEstimate
from preflight.report import Report
from preflight.values import dataclass


@dataclass(frozen=True)
class Difference:
    """One thing that has a value in two launches; None where a launch lacks it."""

    name: str
    before: Any
    after: Any

    @property
    def change(self) -> int:
        """The second value less the first, where they are numbers of bytes."""
        return (self.after or 0) - (self.before or 0)


@dataclass(frozen=True)
class Differences:
    """What differs between two reports."""

    plan: tuple[Difference, ...]
    """Plan fields (`adapter.rank` for a nested one) with other values, in the order of a plan."""
    phases: tuple[Difference, ...]
    """Device bytes of every phase of either launch, in order, the equal ones too."""
    terms: tuple[Difference, ...]
    """Memory terms with other bytes, the largest change first."""
    step_time_factor: float | None
    """Estimated time of the second launch over the first, for the same tokens; None where one is not known."""


def differences(before: Report, after: Report) -> Differences:
    """Return what differs between two launches as they were written, before any rewrite."""
    return Differences(
        plan=tuple(_different(_flat(before.plan.to_dict()), _flat(after.plan.to_dict()))),
        phases=tuple(_paired(_phases(before.estimate), _phases(after.estimate))),
        terms=tuple(
            sorted(
                _different(_terms(before.estimate), _terms(after.estimate)),
                key=lambda one: -abs(one.change),
            )
        ),
        step_time_factor=_step_time_factor(before, after),
    )


def _paired(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    for name in dict.fromkeys((*before, *after)):
        yield Difference(name, before.get(name), after.get(name))


def _different(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    return (one for one in _paired(before, after) if one.before != one.after)


def _flat(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plan with the fields of nested values under dotted names; a model's config counts as one value."""
    flat: dict[str, Any] = {}
    for name, value in plan.items():
        if isinstance(value, Mapping) and name != "model_config":
            flat.update({f"{name}.{inner}": held for inner, held in value.items()})
        else:
            flat[name] = value
    return {name: value for name, value in flat.items() if value is not None}


def _phases(estimate: MemoryEstimate | None) -> dict[str, int]:
    peaks = () if estimate is None else estimate.peaks
    return {peak.phase.value: peak.device_bytes for peak in peaks}


def _terms(estimate: MemoryEstimate | None) -> dict[str, int]:
    """Return the bytes of terms of one name together: a report adds them up as well."""
    found: dict[str, int] = {}
    for term in () if estimate is None else estimate.terms:
        found[term.name] = found.get(term.name, 0) + term.num_bytes
    return found


def _step_time_factor(before: Report, after: Report) -> float | None:
    times = [
        estimate_step_time(report.plan, report.model, report.device)
        for report in (before, after)
        if report.model is not None
    ]
    if len(times) < 2 or not all(time.parts for time in times):
        return None
    first, second = times
    return second.factor_of(first)
