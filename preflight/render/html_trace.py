"""A trace as one HTML file: every phase by what holds it, beside what the formulas say."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from preflight.buckets import BUCKETS
from preflight.memory import MemoryEstimate
from preflight.model import ModelSpec
from preflight.render.html_bars import bar, legend, scale_of
from preflight.render.html_page import details, page, table
from preflight.render.page import Page
from preflight.render.trace import NUM_OPERATIONS, trace_lines
from preflight.trace.result import TracedPhase, TraceResult
from preflight.units import GIB, format_gib

TRACED = {
    "parameters": "weights",
    "gradients": "gradients",
    "optimizer states": "optimizer_states",
    "activations": "activations",
    "logits and loss": "logits",
}
"""What a trace calls it -> the bucket of a page; everything else is a buffer."""


def trace_html(model: ModelSpec, result: TraceResult, estimate: MemoryEstimate | None) -> str:
    """Return the page of a trace."""
    head, *_ = trace_lines(model, result, estimate, Page(10**6))
    head = head.removeprefix("preflight: ")
    peaks = () if estimate is None else estimate.peaks
    formula = {peak.phase: peak.allocated_bytes for peak in peaks}
    largest = [traced.num_bytes for traced in result.phases] + list(formula.values())
    scale = scale_of(largest, None)
    rows = []
    for traced in result.phases:
        known = formula.get(traced.phase)
        off = (
            "" if known is None else f"{100 * (known - traced.num_bytes) / traced.num_bytes:+.2f} %"
        )
        rows.append(
            [
                escape(traced.phase.value.replace("_", " ")),
                bar(_sums(traced), scale, None, _says(traced)),
                f"{traced.num_bytes / GIB:.2f}",
                "none" if known is None else f"{known / GIB:.2f}",
                off,
                escape(traced.where),
            ]
        )
    title = "Live tensors of one rank, by phase of two training steps"
    columns = ["phase", "GiB by what holds it", "traced", "formula", "difference", "where"]
    used = [name for name in BUCKETS if any(_sums(traced)[name] for traced in result.phases)]
    body = [f"<h1>{escape(head[:1].upper() + head[1:])}</h1>", f"<h2>{title}</h2>", legend(used)]
    body += table(columns, rows, right=(2, 3, 4), caption=title, wide=1)
    for traced in result.phases:
        shown = [
            [escape(category), escape(operation), format_gib(num_bytes)]
            for category, operation, num_bytes in traced.operations[:NUM_OPERATIONS]
        ]
        name = traced.phase.value.replace("_", " ")
        body += details(f"{name}: the operations that allocated most", _operations(name, shown))
    layers = f"{result.num_traced_layers} of {result.num_layers} layers run"
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    body.append(f'<p class="muted">{escape(f"{layers}; {versions}")}</p>')
    return page("preflight trace", body)


def _operations(name: str, rows: list[list[str]]) -> list[str]:
    return table(["what it is", "operation", "bytes"], rows, right=(2,), caption=name)


def _sums(traced: TracedPhase) -> Mapping[str, int]:
    sums = dict.fromkeys(BUCKETS, 0)
    for category, num_bytes in traced.categories.items():
        sums[TRACED.get(category, "buffers")] += num_bytes
    return sums


def _says(traced: TracedPhase) -> str:
    parts = ", ".join(f"{name} {size / GIB:.2f}" for name, size in traced.categories.items())
    return f"{traced.phase.value.replace('_', ' ')}: {traced.num_bytes / GIB:.2f} GiB: {parts}"
