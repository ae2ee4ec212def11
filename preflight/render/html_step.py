"""One training step of a report's launch: from its trace where one was kept, else from the estimate."""

from __future__ import annotations

from html import escape

from preflight.memory import MemoryEstimate
from preflight.render.html_bars import timeline
from preflight.render.html_timeline import timeline_section
from preflight.render.words import amount
from preflight.report import Report
from preflight.trace.kept import Kept
from preflight.trace.result import TraceResult


def step_section(report: Report, door: str, kept: Kept | None, trace_command: str) -> list[str]:
    """Return the step of what would be started; `trace_command` is said where its trace would show more."""
    last = report.applied[-1] if report.applied and report.rewrite else None
    estimate = report.estimate if last is None else last.estimate
    assert estimate is not None
    which = ", as rewritten" if last is not None else ""
    capacity = report.device.capacity_bytes if report.device else None
    if kept is not None and kept.result is not None:
        return [
            f"<h2>Two training steps{which}</h2>",
            f"<p>{escape(_traced(kept.result, estimate))}</p>",
            *timeline_section(kept.result.timeline, capacity),
        ]
    drawn = timeline(estimate, capacity)
    if not drawn:
        return []
    lines = [f"<h2>One training step{which}</h2>", '<div class="scroll">', *drawn, "</div>"]
    if kept is None:
        return lines
    if kept.refusal:
        told = f"Drawn from the estimate; `preflight trace` cannot run this one: {kept.refusal}."
        return [*lines, f'<p class="muted">{_marked(told)}</p>']
    first = " after `preflight fix` has written the copy" if last and door == "check" else ""
    told = f"Drawn from the estimate. Run this{first}, and the page shows every part of two steps:"
    command = f'<pre class="command">{escape(trace_command)}</pre>'
    return [*lines, f'<p class="muted">{_marked(told)}</p>', command]


def _traced(result: TraceResult, estimate: MemoryEstimate) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    peak = result.peak.num_bytes
    traced = {phase.phase for phase in result.phases}
    same = max(p.allocated_bytes for p in estimate.peaks if p.phase in traced)
    more = estimate.peak.device_bytes - estimate.peak.allocated_bytes
    told = (
        f"From the trace of {result.traced_on} ({versions}): live tensors, at most {amount(peak, peak)},"
        f" {amount(same, peak)} by the estimate."
    )
    if more:
        told += (
            f" What the allocator holds beyond them and what lives outside of torch, some {amount(more, None)},"
            " comes on top."
        )
    return told


def _marked(text: str) -> str:
    """Return text as HTML, what stands in backquotes as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{p}</code>" if i % 2 else p for i, p in enumerate(parts))
