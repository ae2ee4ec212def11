"""A report as a fragment of HTML for a notebook's cell: styles stand in the elements, so that nothing else of the page changes."""

from __future__ import annotations

from html import escape

from preflight.formulas.engines.buckets import peaks_of_launch
from preflight.printable import printable
from preflight.render.html_bars import scale_of
from preflight.render.report import said_at_once
from preflight.render.words import amount, phase_name
from preflight.report import Report
from preflight.verdict import Answer

COLORS = {
    Answer.FITS: "#2da44e",
    Answer.TIGHT: "#bf8700",
    Answer.UNKNOWN: "#bf8700",
    Answer.DOES_NOT_FIT: "#cf222e",
}
"""Of the mark beside the verdict and the bars: readable on light and on dark; words say the same."""


def notebook_html(report: Report, text: str) -> str:
    """Return the verdict, a bar for each phase with the capacity marked, and the report's text behind a click."""
    color = COLORS[report.verdict.answer]
    said = escape(said_at_once(report))
    return printable(
        "\n".join(
            [
                f'<div style="border-left:4px solid {color};padding-left:.8em"><b>{said}</b>',
                *_phases(report, color),
                f"<details><summary>The whole report</summary><pre>{escape(text)}</pre></details></div>",
            ]
        )
    )


def _phases(report: Report, color: str) -> list[str]:
    if report.estimate is None or not report.estimate.peaks:
        return []
    capacity = report.device.capacity_bytes if report.device else None
    peaks = peaks_of_launch(report.estimate, report.plan)
    scale = scale_of([peak.device_bytes for peak in peaks], capacity)
    mark = "" if capacity is None else f"left:{100 * capacity / scale:.1f}%"
    rows = []
    for peak in peaks:
        width = 100 * peak.device_bytes / scale
        line = f'<i style="position:absolute;top:0;bottom:0;border-left:2px dashed;{mark}"></i>'
        bar = (
            '<div style="position:relative;height:1em;min-width:16em">'
            f'<i style="display:block;height:100%;width:{width:.1f}%;background:{color};opacity:.6"></i>'
            f"{line if mark else ''}</div>"
        )
        cells = (phase_name(peak.phase), amount(peak.device_bytes, capacity), bar)
        rows.append("".join(f'<td style="text-align:left">{cell}</td>' for cell in cells))
    return ["<table>", *(f"<tr>{row}</tr>" for row in rows), "</table>"]
