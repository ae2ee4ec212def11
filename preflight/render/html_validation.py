"""A validation as one HTML file: the picture of predicted against measured, and every compared run."""

from __future__ import annotations

from html import escape

from preflight.render.html_page import details, page, table
from preflight.render.page import Page
from preflight.render.scatter import scatter_svg
from preflight.render.validation import validation_lines
from preflight.studies.validate import Validation
from preflight.units import format_gib


def validation_html(validation: Validation, num_explained: int) -> str:
    """Return the page of a validation; its text is that of the command."""
    lines = validation_lines(validation, Page(100), False, num_explained)
    head = lines[0].removeprefix("preflight: ")
    picture = scatter_svg(validation)
    body = [
        f"<h1>{escape(head[:1].upper() + head[1:])}</h1>",
        f'<div class="scroll">{picture[picture.index("<svg") :]}</div>',
        "<h2>By group, engine and counter</h2>",
        f"<pre>{escape(chr(10).join(lines[1:-1]))}</pre>",
    ]
    rows = [
        [
            escape(run.run.id),
            escape(run.run.plan.engine),
            escape(run.run.counter or ""),
            format_gib(run.run.measured_bytes or 0),
            format_gib(run.predicted_bytes or 0),
            f"{100 * run.error:+.1f} %" if run.error is not None else "",
            "yes" if run.run.is_scored else "no",
        ]
        for run in validation.worst_first(validation.compared)
        if run.error is not None
    ]
    columns = ["run", "engine", "counter", "measured", "predicted", "error", "scored"]
    every = table(columns, rows, right=(3, 4, 5), caption="Compared runs")
    body += details(f"Every run that was compared: {len(rows)}", every)
    return page("preflight validate", body)
