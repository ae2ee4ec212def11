"""A validation as text: the errors by group, engine and counter, the worst runs, the wrong verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from preflight.memory import Phase
from preflight.render.page import Page
from preflight.render.words import PHASE_WORDS
from preflight.studies.measured import COUNTERS
from preflight.studies.validate import ValidatedRun, Validation, summarize
from preflight.units import format_gib
from preflight.verdict import Answer

NUM_WORST = 8
NUM_TERMS = 6


def validation_lines(
    validation: Validation, page: Page, is_verbose: bool = False, num_explained: int = 0
) -> list[str]:
    """Return the whole report; every run is listed when verbose, the worst ones explained when asked."""
    lines = _head(validation, page)
    lines += _table(
        validation.compared,
        lambda v: (not v.run.is_scored, v.run.group, v.run.plan.engine, v.run.counter or ""),
        lambda v: [v.run.group, v.run.plan.engine, v.run.counter or ""],
        ["group", "engine", "counter"],
        page,
    )
    phases = list(Phase)
    lines += _table(
        [v for v in validation.scored_by_counter if v.peak],
        lambda v: (phases.index(v.peak.phase) if v.peak else 0, v.run.counter or ""),
        lambda v: [PHASE_WORDS[v.peak.phase] if v.peak else "", v.run.counter or ""],
        ["predicted to peak", "counter"],
        page,
    )
    if is_verbose:
        lines += page.wrap("every run that was compared, worst first:")
        lines += _runs(validation.worst_first(validation.compared), page)
    if num_explained:
        lines += _explained(validation, num_explained, page)
    elif not is_verbose:
        lines.append("worst scored runs:")
        lines += _runs(validation.worst_first(validation.scored_by_counter)[:NUM_WORST], page)
    lines += _outcomes(validation, page)
    lines += _notes(validation, page, is_verbose)
    return [
        *lines,
        "next: nothing; --worst N says why, -v lists every run, --plot FILE.svg draws them",
    ]


def _head(validation: Validation, page: Page) -> list[str]:
    """Return the answer in one line, and a line per counter with how it is spread."""
    medians, lines = [], []
    for counter in COUNTERS:
        summary = validation.summary_of(counter)
        if summary.num_runs:
            medians.append(f"{counter} off by {_percent(summary.median_abs_error)}")
            lines += page.wrap(
                f"{counter}: {summary.num_runs} runs, median error"
                f" {_percent(summary.median_abs_error)}, p90 {_percent(summary.p90_abs_error)},"
                f" mean of group medians {_percent(summary.macro_median_abs_error)},"
                f" signed median {_signed(summary.median_error)}"
            )
    wrong = f"{len(validation.false_fits)} false fits, {len(validation.false_blocks)} false blocks"
    found = ", ".join([*medians, wrong])
    return [f"preflight: {len(validation.scored)} scored runs: {found}", *lines]


def _table(
    runs: Iterable[ValidatedRun],
    key: Callable[[ValidatedRun], tuple[Any, ...]],
    cells: Callable[[ValidatedRun], list[str]],
    titles: list[str],
    page: Page,
) -> list[str]:
    """Return the errors of runs by key, in the key's order; runs without a peak to compare are left out."""
    parts: dict[tuple[Any, ...], list[ValidatedRun]] = {}
    for v in runs:
        if v.run.outcome == "value":
            parts.setdefault(key(v), []).append(v)
    rows = [[*titles, "runs", "median", "p90", "signed", ""]]
    for _, part in sorted(parts.items()):
        summary = summarize(part)
        rows.append(
            [
                *cells(part[0]),
                str(len(part)),
                _percent(summary.median_abs_error),
                _percent(summary.p90_abs_error),
                _signed(summary.median_error),
                _mark(part),
            ]
        )
    num = len(titles)
    return page.table(rows, right=range(num, num + 4)) if len(rows) > 1 else []


def _mark(runs: Sequence[ValidatedRun]) -> str:
    """Return why runs that stand in one row do not score, or nothing where they do."""
    if all(v.run.is_scored for v in runs):
        return ""
    reasons = sorted({v.run.not_scored_because for v in runs} - {""})
    return f"not scored: {'; '.join(reasons)}" if reasons else "not scored"


def _runs(runs: Sequence[ValidatedRun], page: Page) -> list[str]:
    rows = [["run", "counter", "measured", "predicted", "error", ""]]
    for v in runs:
        rows.append(
            [
                v.run.id,
                v.run.counter or "",
                format_gib(v.run.measured_bytes or 0),
                format_gib(v.predicted_bytes or 0),
                _signed(v.error),
                "; ".join(filter(None, ("at the capacity" if v.is_capped else "", _mark([v])))),
            ]
        )
    return page.table(rows, right=(2, 3, 4))


def _explained(validation: Validation, num_runs: int, page: Page) -> list[str]:
    """Return the wrong verdicts and the worst scored runs, each with the terms that make its prediction."""
    lines = []
    for title, runs in (
        ("false fits: died, and was predicted to fit", validation.false_fits),
        ("false blocks: ran, and would have been refused", validation.false_blocks),
        ("worst scored runs:", validation.worst_first(validation.scored_by_counter)[:num_runs]),
    ):
        if runs:
            lines += page.wrap(title)
        for v in runs:
            lines += _why(v, page)
    return lines


def _why(v: ValidatedRun, page: Page) -> list[str]:
    """Return one run: its launch, its numbers, and the largest terms alive at its predicted peak."""
    plan = v.run.plan
    counter = v.run.counter if v.run.counter in COUNTERS else "allocated"
    if v.run.measured_bytes is None:
        needed = f"needs {format_gib(v.needed_bytes)}, " if v.needed_bytes is not None else ""
        capacity = f" of {format_gib(v.device.capacity_bytes)}" if v.device else ""
        head = f"{v.run.id}: {v.run.outcome}; {needed}predicted {v.answer.words}{capacity}"
    else:
        head = (
            f"{v.run.id}: {counter} {format_gib(v.run.measured_bytes)},"
            f" predicted {format_gib(v.predicted_bytes or 0)} ({_signed(v.error)})"
        )
        head += ", which is all that the device has" if v.is_capped else ""
    lines = page.wrap(head, "  ", "    ")
    versions = (
        f"{name} {plan.versions[name]}" for name in ("transformers",) if plan.versions.get(name)
    )
    launch = [
        str(plan.model),
        f"{plan.engine}, {plan.world_size} rank{'s' if plan.world_size > 1 else ''}",
        f"{plan.micro_batch_size} x {plan.seq_len} tokens",
        f"checkpointing {plan.activation_checkpointing}",
        f"{plan.adapter.kind} rank {plan.adapter.rank}" if plan.adapter else "",
        f"{plan.base_quantization.scheme} base" if plan.base_quantization else "",
        *versions,
    ]
    lines += page.wrap(", ".join(filter(None, launch)), "    ", "    ")
    peak = v.peak
    if peak is None:
        return lines
    lines += page.wrap(f"largest terms {PHASE_WORDS[peak.phase]}:", "    ", "    ")
    alive = v.terms
    shown, rest = alive[:NUM_TERMS], alive[NUM_TERMS:]
    lines += page.table(
        [[format_gib(t.num_bytes), t.name, t.formula] for t in shown], right=(0,), indent="    "
    )
    if rest:
        lines.append(
            f"    and {len(rest)} smaller, together {format_gib(sum(t.num_bytes for t in rest))}"
        )
    return lines


def _outcomes(validation: Validation, page: Page) -> list[str]:
    """Return what was said of runs that died and of runs that ran."""
    lines = []
    for is_scored, kind in ((True, "scored runs"), (False, "runs that do not score and")):
        for did, wanted in (("died", True), ("ran", False)):
            runs = [
                v
                for v in validation.runs
                if v.run.is_scored is is_scored and (v.run.outcome == "oom") is wanted
            ]
            counts = [
                f"{sum(v.answer is answer for v in runs)} {answer.words}"
                for answer in Answer
                if any(v.answer is answer for v in runs)
            ]
            that = f"{kind} that" if is_scored else kind
            if runs:
                lines += page.wrap(f"of {len(runs)} {that} {did}: {', '.join(counts)}")
    for title, wrong in (
        ("false fits", validation.false_fits),
        ("false blocks", validation.false_blocks),
    ):
        if wrong:
            lines += page.wrap(f"{title}: {', '.join(v.run.id for v in wrong)}")
    return lines


def _notes(validation: Validation, page: Page, is_verbose: bool) -> list[str]:
    """Return the predictions that were capped, and the runs that have no comparison, and why."""
    lines = []
    capped = list(dict.fromkeys(v.run.id for v in validation.compared if v.is_capped))
    if capped:
        lines += page.wrap(
            f"note: predicted at the capacity of the device: {', '.join(capped)}; live tensors fit,"
            " and the caching allocator gives free segments back before it fails"
        )
    unnamed = [v.run.id for v in validation.runs if v.run.counter == "unknown"]
    if unnamed:
        lines += page.wrap(
            f"not compared, because the source does not name the counter: {len(unnamed)} runs"
            + (f": {', '.join(unnamed)}" if is_verbose else "")
        )
    reasons: dict[str, list[str]] = {}
    for v in validation.runs:
        if not v.predicted:
            reasons.setdefault(v.reason or "no estimate", []).append(v.run.id)
    for reason, ids in reasons.items():
        shown = ids if is_verbose else ids[:3]
        more = f" and {len(ids) - len(shown)} more" if len(ids) > len(shown) else ""
        lines += page.wrap(f"not estimated: {reason}: {', '.join(shown)}{more}")
    return lines


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}%"


def _signed(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:+.1f}%"
