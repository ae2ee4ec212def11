"""A validation as text: the errors by group, engine and counter, the worst runs, the wrong verdicts."""

from __future__ import annotations

from preflight.measured import COUNTERS
from preflight.render.page import Page
from preflight.units import format_gib
from preflight.validate import ValidatedRun, Validation, summarize
from preflight.verdict import Answer

NUM_WORST = 8


def validation_lines(validation: Validation, page: Page, is_verbose: bool = False) -> list[str]:
    """Return the whole report; every run is listed when verbose."""
    lines = _head(validation, page)
    for title, is_scored in (("scored runs", True), ("runs that inform but do not count", False)):
        runs = [v for v in validation.runs if v.run.is_scored is is_scored]
        if runs:
            lines.append(f"{title}: {len(runs)}")
            lines += _groups(runs, page)
    compared = sorted(
        (v for v in validation.scored if v.error is not None), key=lambda v: -abs(v.error or 0)
    )
    if compared:
        lines.append("worst scored runs:" if not is_verbose else "scored runs, worst first:")
        lines += _runs(compared if is_verbose else compared[:NUM_WORST], page)
    lines += _outcomes(validation, page)
    lines += _without(validation, page, is_verbose)
    return [*lines, "next: nothing; -v lists every run, --format json has the bytes of each"]


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


def _groups(runs: list[ValidatedRun], page: Page) -> list[str]:
    keys = sorted({(v.run.group, v.run.plan.engine, v.run.counter or "") for v in runs})
    rows = [["group", "engine", "counter", "runs", "median", "p90", "signed"]]
    for group, engine, counter in keys:
        if counter not in COUNTERS:
            continue
        summary = summarize(
            [
                v
                for v in runs
                if (v.run.group, v.run.plan.engine, v.run.counter or "") == (group, engine, counter)
            ]
        )
        rows.append(
            [
                group,
                engine,
                counter,
                str(summary.num_runs),
                _percent(summary.median_abs_error),
                _percent(summary.p90_abs_error),
                _signed(summary.median_error),
            ]
        )
    return page.table(rows, right=(3, 4, 5, 6)) if len(rows) > 1 else []


def _runs(runs: list[ValidatedRun], page: Page) -> list[str]:
    rows = [["run", "counter", "measured", "predicted", "error"]]
    for v in runs:
        rows.append(
            [
                v.run.id,
                v.run.counter or "",
                format_gib(v.run.measured_bytes or 0),
                format_gib(v.predicted_bytes or 0),
                _signed(v.error),
            ]
        )
    return page.table(rows, right=(2, 3, 4))


def _outcomes(validation: Validation, page: Page) -> list[str]:
    """Return what was said of runs that died and of runs that ran."""
    lines = []
    for title, wanted in (("died", True), ("ran", False)):
        runs = [v for v in validation.scored if (v.run.outcome == "oom") is wanted]
        counts = [
            f"{sum(v.answer is answer for v in runs)} {answer.words}"
            for answer in Answer
            if any(v.answer is answer for v in runs)
        ]
        if runs:
            lines += page.wrap(f"of {len(runs)} scored runs that {title}: {', '.join(counts)}")
    for title, wrong in (
        ("false fits", validation.false_fits),
        ("false blocks", validation.false_blocks),
    ):
        if wrong:
            lines += page.wrap(f"{title}: {', '.join(v.run.id for v in wrong)}")
    return lines


def _without(validation: Validation, page: Page, is_verbose: bool) -> list[str]:
    """Return the runs that have no comparison, and why."""
    unnamed = [v for v in validation.runs if v.run.counter == "unknown"]
    lines = []
    if unnamed:
        lines += page.wrap(
            f"not compared, because the source does not name the counter: {len(unnamed)} runs"
            + (f": {', '.join(v.run.id for v in unnamed)}" if is_verbose else "")
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
