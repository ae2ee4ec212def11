"""What would fit where nothing safe does, on a report's page: a row and a bar for each method, and a larger device."""

from __future__ import annotations

from html import escape

from preflight.render.advice import advice_rows, larger_words, priced_words
from preflight.render.html_bars import scale_of
from preflight.render.html_page import table
from preflight.report import Report

RIGHT = ("trained", "$/hour")
COLORS = {"fits": "good", "tight": "warn", "unknown": "warn"}
"""Verdict of a method on as many ranks as the launch has -> the color of its bar; any other is the color of a refusal."""


def advice_section(report: Report) -> list[str]:
    """Return the table of methods with bars against the capacity; nothing where nothing else was looked for."""
    advice, device = report.advice, report.device
    if advice is None or device is None:
        return []
    head, rows = advice_rows(report)
    capacity = device.capacity_bytes
    scale = scale_of([method.device_peak_bytes for method in advice.methods], capacity)
    cells = []
    for method, row in zip(advice.methods, rows, strict=True):
        color = COLORS.get(method.verdict, "bad")
        share = 100 * method.device_peak_bytes / scale
        drawn = (
            f'<div class="bar" role="img" aria-label="{escape(row[2])}">'
            f'<i style="width:{share:.3f}%;background:var(--{color})"></i>'
            f'<b style="left:{100 * capacity / scale:.3f}%" title="capacity"></b></div>{escape(row[2])}'
        )
        cells.append([escape(row[0]), escape(row[1]), drawn, *map(escape, row[3:])])
    right = tuple(column for column, name in enumerate(head) if name in RIGHT)
    title = "What would fit"
    lines = [f"<h2>{title}</h2>", f"<p>{escape(priced_words(report))}</p>"]
    lines += table(head, cells, right=right, caption=title, wide=2)
    larger = larger_words(report)
    return [*lines, f"<p>{escape(larger)}.</p>"] if larger else lines
