"""What small trainings on this machine's GPUs showed, as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from preflight.records.site_correction import Correction
from preflight.render.page import Page


def calibration_lines(
    num_trials: int,
    failed: Sequence[str],
    corrections: Iterable[Correction],
    folder: str,
    page: Page,
) -> list[str]:
    """Return how many trainings were measured, those that failed, and what the records correct."""
    lines = [f"preflight: {num_trials - len(failed)} of {num_trials} trainings measured"]
    said = [correction.words for correction in corrections]
    for text in (*failed, *said):
        lines += page.wrap(text, "  ", "    ")
    use = "checks for these devices use it" if said else "nothing is corrected"
    return [*lines, f"next: {use}; records are in {folder}"]
