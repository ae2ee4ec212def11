"""The estimate as text: phases against the capacity, the largest terms of the one that decides, and a node's own memory."""

from __future__ import annotations

from preflight.formulas.engines.buckets import peaks_of_launch
from preflight.memory import Level, MemoryEstimate, MemoryTerm, Phase
from preflight.render.page import Page, bar
from preflight.render.words import PHASE_WORDS, amount, phase_name
from preflight.report import Report
from preflight.units import GIB, format_count, format_gib

NUM_TERMS_SHOWN = 6
BESIDE_BAR = 73
"""Columns of a phase's line without its bar."""
SHORTEST_BAR, LONGEST_BAR = 10, 30


def estimate_lines(report: Report, page: Page, is_verbose: bool) -> list[str]:
    """Return the model, the phases against the capacity, and the terms of the phase that decides."""
    estimate, model = report.estimate, report.model
    lines = []
    if model is not None:
        counts = f"{format_count(model.num_params)} parameters"
        if report.num_trainable_params not in (None, model.num_params):
            counts += f", {format_count(report.num_trainable_params or 0)} of them trained"
        if model.like is not None:
            counts += f" (shapes of {model.like.model}: {model.like.evidence})"
        elif is_verbose and model.source:
            counts += f" (from {model.source})"
        lines += page.wrap(f"model: {model.name}, {counts}")
    if report.device is not None and is_verbose:
        lines += page.wrap(f"device: {report.device.name} (from {report.device.source})")
    if estimate is None or not estimate.peaks:
        return lines
    lines += phase_lines(report, estimate, page)
    phase = report.verdict.failing_phase or estimate.peak.phase
    capacity = report.device.capacity_bytes if report.device else None
    is_of_host = report.verdict.failing_level is Level.HOST
    if is_of_host:
        lines += host_term_lines(estimate, phase, page)
    else:
        lines += term_lines(estimate, phase, page, capacity)
    if is_verbose:
        lines.append("all terms:")
        for term in estimate.terms:
            lines += _term_in_full(term, page)
    if is_of_host and not is_verbose:
        return lines
    return lines + host_lines(estimate, page, report.plan.host_memory_gib)


MORE_THAN_MOST_NODES = 1024 * GIB
"""Of host memory: a launch that needs as much on each node says how it is judged."""


def host_lines(estimate: MemoryEstimate, page: Page, capacity_gib: int | None) -> list[str]:
    """Return what the fullest node needs of its own memory, when, and what most of that is."""
    phase, peak = estimate.host_peak_phase, estimate.host_peak_bytes_per_node
    if phase is None or not peak:
        return []
    alive = [t for t in estimate.terms if t.level is Level.HOST and phase in t.phases]
    most = max(alive, key=lambda term: term.num_bytes)
    name = most.name.removeprefix("host: ")
    words = f"host: {format_gib(peak)} per node {PHASE_WORDS[phase]}"
    if most.num_bytes * 2 > peak and name != "processes":
        words += f", most of it {name}" + (f" ({most.formula})" if most.formula else "")
    if capacity_gib is not None:
        words += f"; a node has {format_gib(capacity_gib * GIB)}"
    elif peak > MORE_THAN_MOST_NODES:
        words += "; nobody said what a node has: --set host_memory_gib=N judges it"
    return page.wrap(words)


def phase_lines(report: Report, estimate: MemoryEstimate, page: Page) -> list[str]:
    """Return a line per phase: live tensors, and what the driver would show."""
    capacity = report.device.capacity_bytes if report.device else None
    of = f"capacity {amount(capacity, capacity)}" if capacity else ""
    width = min(LONGEST_BAR, page.width - BESIDE_BAR)
    is_drawn = page.has_bars and capacity is not None and width >= SHORTEST_BAR
    drawn = [""] if is_drawn else []
    rows = [["phase", "tensors", "device", *drawn, of]]
    largest = max(capacity or 0, *(peak.device_bytes for peak in estimate.peaks))
    for peak in peaks_of_launch(estimate, report.plan):
        mark = ""
        if capacity is not None:
            if peak.needed_bytes > capacity:
                mark = "does not fit"
            elif peak.device_bytes > capacity:
                mark = "tight"
        is_first = peak.phase is report.verdict.failing_phase
        if is_first and report.verdict.failing_level is not Level.HOST:
            mark = (mark or "tight") + ", the first to fail"
        rows.append(
            [
                phase_name(peak.phase),
                amount(peak.allocated_bytes, capacity),
                amount(peak.device_bytes, capacity),
                *(bar(peak.device_bytes, capacity or 1, largest, width) for _ in drawn),
                mark,
            ]
        )
    return page.table(rows, right=(1, 2))


def host_term_lines(estimate: MemoryEstimate, phase: Phase, page: Page) -> list[str]:
    """Return what a node's host memory holds in a phase, largest first, with formulas."""
    alive = [t for t in estimate.terms if t.level is Level.HOST and phase in t.phases]
    alive.sort(key=lambda term: -term.num_bytes)
    rows = [
        [format_gib(t.num_bytes), t.name.removeprefix("host: "), t.formula]
        for t in alive
        if t.num_bytes
    ]
    return [*page.wrap(f"host memory {PHASE_WORDS[phase]}:"), *page.table(rows, right=(0,))]


def term_lines(
    estimate: MemoryEstimate, phase: Phase, page: Page, capacity: int | None
) -> list[str]:
    """Return the largest terms of a phase with their formulas."""
    peak = next((p for p in estimate.peaks if p.phase is phase), estimate.peak)
    alive = [
        term for term in estimate.terms_of(peak) if term.level is not Level.HOST and term.num_bytes
    ]
    lines = page.wrap(f"largest terms {PHASE_WORDS[phase]}:")
    shown, rest = alive[:NUM_TERMS_SHOWN], alive[NUM_TERMS_SHOWN:]
    lines += page.table(
        [[amount(t.num_bytes, capacity), t.name, t.formula] for t in shown], right=(0,)
    )
    if rest:
        total = amount(sum(term.num_bytes for term in rest), capacity)
        lines.append(f"  and {len(rest)} smaller, together {total}")
    return lines


def _term_in_full(term: MemoryTerm, page: Page) -> list[str]:
    alive = ", ".join(phase_name(phase) for phase in term.phases)
    lines = page.wrap(
        f"{format_gib(term.num_bytes)}  {term.name}  [{term.level.value}; {alive}]", "  ", "    "
    )
    for text in (f"= {term.formula}" if term.formula else "", term.source):
        if text:
            lines += page.wrap(text, "    ", "    ")
    return lines
