"""The runs of this site as text: what was predicted, what was measured, and what they correct."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from preflight.records.compaction import Compacted
from preflight.records.found_corrections import MIN_RUNS
from preflight.records.run_record import RunRecord
from preflight.records.site_correction import Correction
from preflight.render.page import Page
from preflight.render.words import amount
from preflight.studies.own_runs import fullest, outcome_of

NUM_UNREADABLE = 5
"""Places that are named; a folder of another schema may have thousands."""
RUNS_PER_TABLE = 1000
"""More have tables of their own, whose columns are as wide as they need: a million rows are not held for one width."""


def history_lines(
    num_runs: int,
    runs: Iterable[Sequence[RunRecord]],
    corrections: Mapping[str, Correction],
    unreadable: Sequence[str],
    num_unreadable: int,
    folder: str,
    page: Page,
) -> Iterator[list[str]]:
    """Return a line per run, the newest last, and what the runs correct; a long history in several parts."""
    lines = [f"preflight: {num_runs} runs in {folder}"]
    for place in unreadable[:NUM_UNREADABLE]:
        lines += page.wrap(f"passed over {place}", "  ", "    ")
    if num_unreadable > NUM_UNREADABLE:
        lines.append(f"  and {num_unreadable - NUM_UNREADABLE} more")
    if not num_runs:
        yield [*lines, "next: preflight.PreflightCallback() or preflight.measure() records one"]
        return
    rest = iter(runs)
    while rows := [_row(ranks) for ranks in islice(rest, RUNS_PER_TABLE)]:
        lines += page.table([HEAD, *rows], right=(3, 4, 5))
        if len(rows) == RUNS_PER_TABLE:
            yield lines
            lines = []
    for correction in corrections.values():
        lines += page.wrap(correction.words)
    if not corrections:
        lines += page.wrap(
            f"nothing is corrected: that takes {MIN_RUNS} finished runs on one kind of GPU"
        )
    yield [*lines, "next: `preflight validate --history` compares every run with its estimate"]


def compaction_lines(compacted: Sequence[Compacted], page: Page) -> list[str]:
    """Return a line per file that was looked at, and what became of it."""
    lines = []
    for file in compacted:
        num_left_out = file.num_lines_before - file.num_lines_after
        words = f"{num_left_out:,} of {file.num_lines_before:,} lines left out"
        if num_left_out:
            words += f", {file.num_bytes_before:,} bytes became {file.num_bytes_after:,}"
        else:
            words = "nothing was replaced, and it stays as it is"
        lines += page.wrap(f"preflight: {file.path}: {words}", "", "  ")
    return lines or ["preflight: there is no file of yours from this host to compact"]


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


HEAD = ["started", "run", "device", "predicted", "measured", "off", ""]
WORDS = {"oom": "out of memory in {}", "failed": "failed in {}", "running": "never ended"}
