"""The runs of this site as text: what was predicted, what was measured, and what they correct."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from preflight.records.run_record import RunRecord
from preflight.records.site_correction import MIN_RUNS, Correction
from preflight.render.page import Page
from preflight.render.words import amount
from preflight.studies.own_runs import fullest, outcome_of

NUM_RUNS = 20
NUM_UNREADABLE = 5
"""Places that are named; a folder of another schema may have thousands."""


def history_lines(
    runs: Sequence[Sequence[RunRecord]],
    corrections: Mapping[str, Correction],
    unreadable: Sequence[str],
    folder: str,
    page: Page,
    num_shown: int = NUM_RUNS,
) -> list[str]:
    """Return a line per run, the newest last, and what the runs correct."""
    lines = [f"preflight: {len(runs)} runs in {folder}"]
    for place in unreadable[:NUM_UNREADABLE]:
        lines += page.wrap(f"passed over {place}", "  ", "    ")
    if len(unreadable) > NUM_UNREADABLE:
        lines.append(f"  and {len(unreadable) - NUM_UNREADABLE} more")
    if not runs:
        return [*lines, "next: preflight.PreflightCallback() or preflight.measure() records one"]
    rows = [["started", "run", "device", "predicted", "measured", "off", ""]]
    rows += [_row(ranks) for ranks in (runs[-num_shown:] if num_shown else runs)]
    lines += page.table(rows, right=(3, 4, 5))
    for correction in corrections.values():
        lines += page.wrap(correction.words)
    if not corrections:
        lines += page.wrap(
            f"nothing is corrected: that takes {MIN_RUNS} finished runs on one kind of GPU"
        )
    return [*lines, "next: `preflight validate --history` compares every run with its estimate"]


def _row(ranks: Sequence[RunRecord]) -> list[str]:
    record = fullest(ranks)
    measured, predicted = record.peak("allocated"), record.predicted_peak("allocated")
    small = min(value for value in (measured, predicted, 1 << 60) if value is not None)
    outcome = outcome_of(ranks)
    where = (record.failed_phase or record.peak_phase).replace("_", " ")
    ranks_of = f"{record.plan.get('engine', 'unknown')} x {record.world_size}"
    return [
        record.started[:16].replace("T", " "),
        f"{record.plan.get('model', 'unknown')}, {ranks_of}",
        record.device_class,
        "" if predicted is None else amount(predicted, small),
        "" if measured is None else amount(measured, small),
        ""
        if not measured or predicted is None or outcome != "done"
        else f"{(predicted - measured) / measured:+.1%}",
        "" if outcome == "done" else WORDS[outcome].format(where),
    ]


WORDS = {"oom": "out of memory in {}", "failed": "failed in {}", "running": "never ended"}
