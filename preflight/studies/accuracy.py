"""How far off predictions are: the median, p90 and sign of relative errors, over runs and over groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from preflight.values import dataclass

SMALLEST_GROUP = 4
"""Runs a group needs for a median of its own; smaller groups are pooled into one."""


@dataclass(frozen=True)
class ErrorSummary:
    """How far predictions of one counter are off."""

    num_runs: int
    median_abs_error: float | None
    p90_abs_error: float | None
    macro_median_abs_error: float | None
    """Mean over groups of the group's median."""
    median_error: float | None
    """Signed: above zero, predictions are too large."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "num_runs": self.num_runs,
            "median_abs_error": self.median_abs_error,
            "p90_abs_error": self.p90_abs_error,
            "macro_median_abs_error": self.macro_median_abs_error,
            "median_error": self.median_error,
        }


def summarize_errors(errors: Sequence[tuple[str, float]]) -> ErrorSummary:
    """Summarize relative errors, each with the group of its run."""
    groups: dict[str, list[float]] = {}
    for group, error in errors:
        groups.setdefault(group, []).append(abs(error))
    large = [group for group in groups.values() if len(group) >= SMALLEST_GROUP]
    pooled = [e for group in groups.values() if len(group) < SMALLEST_GROUP for e in group]
    medians = [quantile(group, 0.5) for group in (*large, pooled) if group]
    signed = [error for _, error in errors]
    sizes = [abs(error) for error in signed]
    return ErrorSummary(
        len(errors),
        quantile(sizes, 0.5) if sizes else None,
        quantile(sizes, 0.9) if sizes else None,
        sum(medians) / len(medians) if medians else None,
        quantile(signed, 0.5) if signed else None,
    )


def quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile, linear between neighbours."""
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)
