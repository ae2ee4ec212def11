"""What is said when a device had no more memory: what was predicted, where it failed, what held most, and what would do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from preflight.embedded.counters import Block
from preflight.embedded.guard import change_lines, check_live
from preflight.records.run_record import RunRecord
from preflight.render.words import amount
from preflight.report import Report
from preflight.units import GIB


def oom_lines(
    record: RunRecord,
    report: Report | None,
    blocks: Sequence[Block],
    model: Any,
    said: str,
) -> list[str]:
    """Return the report of a run that ran out of memory; `said` is the exception's first line, which no record keeps."""
    from preflight.render.page import Page

    page = Page()
    phase = record.failed_phase.replace("_", " ")
    capacity = int(record.device.get("capacity_bytes") or 0)
    lines = [
        f"preflight: out of memory in {phase} after {record.num_steps} whole steps,"
        f" rank {record.rank} of {record.world_size}, on {record.device.get('name')}"
        f" of {amount(capacity, capacity)}"
    ]
    if said:
        lines += page.wrap(said)
    lines += page.table(_rows(record), right=(1, 2))
    if blocks:
        lines.append("largest blocks in use:")
        lines += page.table([[amount(b.num_bytes, capacity), b.what] for b in blocks], right=(0,))
    if report is None:
        return [*lines, "next: no plan could be made of this run, so nothing is suggested"]
    return lines + _remedy_lines(record, report, model, page)


def _rows(record: RunRecord) -> list[list[str]]:
    capacity = int(record.device.get("capacity_bytes") or 0) or None
    rows = [["phase", "predicted", "measured", ""]]
    names = list(dict.fromkeys((*record.predicted, *record.phases)))
    for name in names:
        predicted = record.predicted.get(name, {}).get("allocated")
        measured = record.phases.get(name, {}).get("allocated")
        rows.append(
            [
                name.replace("_", " "),
                "" if predicted is None else amount(predicted, capacity),
                "" if measured is None else amount(measured, capacity),
                "failed here" if name == record.failed_phase else "",
            ]
        )
    return rows


def _remedy_lines(record: RunRecord, report: Report, model: Any, page: Any) -> list[str]:
    from preflight.render.changes import suggested_lines
    from preflight.render.report import head_lines

    asked = report
    capacity = int(record.device.get("capacity_bytes") or 0)
    lines = [f"as predicted: {head_lines(report, page)[0].removeprefix('preflight: ')}"]
    if not (report.suggested or report.applied):
        smaller = _asked_for_less(report, model)
        if smaller is not None:
            asked = smaller
            lines.append("it was predicted to fit; what would make it smaller:")
    lines += change_lines(asked, capacity, page)
    lines += suggested_lines(asked, page)
    first = asked.applied or asked.suggested
    if not first:
        return [
            *lines,
            "next: nothing that preflight knows makes it smaller; a larger device, or more",
        ]
    change = ", ".join(f"{name} = {value}" for name, value in first[0].remedy.edits.items())
    return [
        *lines,
        f"next: {first[0].remedy.id} first ({change}); `preflight explain {first[0].remedy.id}`",
    ]


def _asked_for_less(report: Report, model: Any) -> Report | None:
    """Return the report of the same plan on a device that is too small by a tenth of its peak: what would save that?"""
    if report.estimate is None or not report.estimate.peaks or report.model is None:
        return None
    size = report.estimate.device_peak_bytes * 9 // 10 / GIB
    return check_live(report.plan, model, device=f"this:{size!r}")
