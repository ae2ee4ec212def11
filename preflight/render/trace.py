"""A trace as text: every phase traced and by formula, and what is alive at the peak."""

from __future__ import annotations

from collections.abc import Mapping

from preflight.memory import MemoryEstimate, Phase
from preflight.model import ModelSpec
from preflight.render.page import Page
from preflight.render.words import of_capacity, phase_name
from preflight.trace.result import TracedPhase, TraceResult
from preflight.units import format_gib

NUM_CATEGORIES = 6
NUM_OPERATIONS = 12


def trace_lines(
    model: ModelSpec,
    result: TraceResult,
    estimate: MemoryEstimate | None,
    page: Page,
    is_verbose: bool,
    capacity_bytes: int | None,
) -> list[str]:
    """Return the whole report, with what tensors alone say of a device where one is named; operations when verbose."""
    peak = result.peak
    peaks = () if estimate is None else estimate.peaks
    formula = {entry.phase: entry.allocated_bytes for entry in peaks}
    largest = max((formula.get(traced.phase, 0) for traced in result.phases), default=0)
    difference = f"; formula {_difference(largest, peak.num_bytes)}" if largest else ""
    held = format_gib(peak.num_bytes)
    answer = ""
    if capacity_bytes is not None:
        held = of_capacity(peak.num_bytes, capacity_bytes)
        is_too_large = peak.num_bytes > capacity_bytes
        answer = ": does not fit" if is_too_large else ": the tensors alone fit"
    lines = page.wrap(
        f"preflight: traced. Peak {held} per rank in the {phase_name(peak.phase)}{answer}{difference} ({model.name})"
    )
    lines += _phases(result, formula, page)
    lines += page.wrap(f"alive at the peak ({phase_name(peak.phase)}, {peak.where}):")
    lines += _alive(peak, page)
    if is_verbose:
        for traced in result.phases:
            lines += page.wrap(f"{phase_name(traced.phase)}, by the operation that allocated:")
            lines += _operations(traced, page)
    lines += page.wrap(_how(result))
    beside = "with what lies beside them" if capacity_bytes is not None else "for a device"
    return [*lines, f"next: nothing was started; `preflight check` judges the launch {beside}"]


def _phases(result: TraceResult, formula: Mapping[Phase, int], page: Page) -> list[str]:
    rows = [["phase", "traced", "formula", "difference", "where"]]
    for traced in result.phases:
        known = formula.get(traced.phase)
        rows.append(
            [
                phase_name(traced.phase),
                format_gib(traced.num_bytes),
                "none" if known is None else format_gib(known),
                "" if known is None else _difference(known, traced.num_bytes),
                traced.where,
            ]
        )
    return page.table(rows, right=(1, 2, 3))


def _alive(traced: TracedPhase, page: Page) -> list[str]:
    categories = list(traced.categories.items())
    rows = [[name, format_gib(size)] for name, size in categories[:NUM_CATEGORIES]]
    rest = sum(size for _, size in categories[NUM_CATEGORIES:])
    if rest:
        rows.append(["others", format_gib(rest)])
    return page.table(rows, right=(1,))


def _operations(traced: TracedPhase, page: Page) -> list[str]:
    rows = [[c, o, format_gib(size)] for c, o, size in traced.operations[:NUM_OPERATIONS]]
    return page.table(rows, right=(2,))


def _how(result: TraceResult) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    layers = f"all {result.num_layers} layers run"
    if result.num_traced_layers < result.num_layers:
        layers = f"{result.num_traced_layers} of {result.num_layers} layers run, the rest added up"
    when = f"{result.seconds:.1f} s" + (", from the cache" if result.is_cached else "")
    return f"{layers}; {when} ({versions})"


def _difference(formula: int, traced: int) -> str:
    if not traced:
        return ""
    return f"{100 * (formula - traced) / traced:+.2f} %"
