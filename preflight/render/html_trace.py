"""A trace as one HTML file: every phase by what holds it, beside what the formulas say."""

from __future__ import annotations

from html import escape

from preflight.formulas.engines.buckets import BUCKETS, of_traced
from preflight.memory import MemoryEstimate
from preflight.model import ModelSpec
from preflight.render.html_bars import bar, legend, scale_of, unit_of
from preflight.render.html_page import details, page, table
from preflight.render.html_timeline import WORDS, timeline_section
from preflight.render.page import Page
from preflight.render.trace import NUM_OPERATIONS, trace_lines
from preflight.render.words import phase_name
from preflight.trace.result import TracedPhase, TraceResult
from preflight.units import format_gib


def trace_html(
    model: ModelSpec,
    result: TraceResult,
    estimate: MemoryEstimate | None,
    capacity_bytes: int | None,
) -> str:
    """Return the page of a trace."""
    head, *_ = trace_lines(model, result, estimate, Page(10**6), False, capacity_bytes)
    head = head.removeprefix("preflight: ")
    peaks = () if estimate is None else estimate.peaks
    formula = {peak.phase: peak.allocated_bytes for peak in peaks}
    largest = [traced.num_bytes for traced in result.phases] + list(formula.values())
    scale = scale_of(largest, None)
    size, unit = unit_of(scale)
    rows = []
    for traced in result.phases:
        known = formula.get(traced.phase)
        off = (
            "" if known is None else f"{100 * (known - traced.num_bytes) / traced.num_bytes:+.2f} %"
        )
        rows.append(
            [
                escape(phase_name(traced.phase)),
                bar(of_traced(traced.categories), scale, None, _says(traced, size, unit)),
                f"{traced.num_bytes / size:.2f}",
                "none" if known is None else f"{known / size:.2f}",
                off,
                escape(traced.where).replace(" ", "&nbsp;"),
            ]
        )
    title = "Live tensors of one rank, by phase of two training steps"
    columns = ["phase", f"{unit} by what holds it", "traced", "formula", "difference", "where"]
    used = [
        name
        for name in BUCKETS
        if any(of_traced(traced.categories)[name] for traced in result.phases)
    ]
    body = [
        f"<h1>{escape(head[:1].upper() + head[1:])}</h1>",
        f"<h2>{title}</h2>",
        legend(used, WORDS),
    ]
    body += table(columns, rows, right=(2, 3, 4), caption=title, wide=1)
    body += ["<h2>Two training steps, part by part</h2>"]
    body += timeline_section(result.timeline, capacity_bytes)
    body += ["<h2>By the operation that allocated</h2>"]
    for traced in result.phases:
        shown = [
            [escape(category), escape(operation), format_gib(num_bytes)]
            for category, operation, num_bytes in traced.operations[:NUM_OPERATIONS]
        ]
        name = phase_name(traced.phase)
        body += details(name, _operations(name, shown))
    layers = f"{result.num_traced_layers} of {result.num_layers} layers run"
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    when = f"traced on {result.traced_on}"
    body.append(f'<p class="muted">{escape(f"{layers}; {when}; {versions}")}</p>')
    return page("preflight trace", body)


def _operations(name: str, rows: list[list[str]]) -> list[str]:
    return table(["what it is", "operation", "bytes"], rows, right=(2,), caption=name)


def _says(traced: TracedPhase, size: int, unit: str) -> str:
    parts = ", ".join(f"{name} {held / size:.2f}" for name, held in traced.categories.items())
    return f"{traced.phase.value.replace('_', ' ')}: {traced.num_bytes / size:.2f} {unit}: {parts}"
