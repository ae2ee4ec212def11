"""The answer of a launch whose length is only where rows are cut, or that nobody said: how long its rows may be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from preflight.judge import Judged
from preflight.plugin_manager import PluginManager
from preflight.report import Report
from preflight.request import Request, is_override
from preflight.search.longest import rows_that_fit
from preflight.verdict import Answer, Verdict

SURELY_REACHED = 0.5
"""Share of the length at which rows are cut that some row is taken to reach, for a refusal: who cuts at twice what the
data has would cut at half of it. Published runs with alpaca's rows hold half of what their cap takes."""


def with_longest_rows(
    report: Report, judged: Judged, plugins: PluginManager, request: Request
) -> Report:
    """Return the report with the longest rows that fit, where the length is only a cap or nobody said it."""
    length, ends_sooner = rows_that_fit(judged, plugins, request.policy)
    found: dict[str, Any] = {} if length is None else {"longest_seq_len": length}
    if request.finds_room:
        from preflight.search.longer import longer_rows

        with_each = longer_rows(judged, length, plugins, request.policy)
        if with_each:
            found["longest_seq_len_with"] = [one.to_dict() for one in with_each]
    report = replace(report, extra={**report.extra, **found})
    cap = judged.plan.seq_len
    if cap is None:
        return report
    origin = judged.plan.origins.get("seq_len")
    is_told = origin is not None and is_override(origin)  # somebody says that rows are as long
    if ends_sooner and not is_told:
        return _with_rows_to_be_made(report, length, cap, request)
    if length is None:
        return report
    note = (
        f"{cap:,} tokens are where rows are cut, and no data was seen: rows of up to"
        f" {length:,} tokens fit as written; --dataset FILE says how long they are"
    )
    report = replace(report, notes=(*report.notes, note))
    is_helped = report.final_verdict.answer is not Answer.DOES_NOT_FIT or bool(report.by_hand)
    if is_told or is_helped or length < SURELY_REACHED * cap:
        return report  # a sure way on, for rows as long as the cap, is worth more than the doubt
    reason = f"rows of up to {length:,} of the {cap:,} tokens at which they are cut fit"
    return replace(report, **_unknown_for_its_length(report, reason, request))


def _with_rows_to_be_made(report: Report, length: int | None, cap: int, request: Request) -> Report:
    """Return the answer of a launch that its longest rows alone refuse, where a model says how long they get."""
    reason = f"rows get at most {cap:,} tokens long, and a model ends them sooner"
    if length is not None:
        reason = f"rows of up to {length:,} of the {cap:,} tokens that a model may make of them fit"
    fits_rewritten = report.final_verdict.answer is Answer.FITS
    return replace(
        report,
        applied=(),
        rewrite=None,
        by_hand=report.applied if fits_rewritten else report.by_hand,
        notes=(*report.notes, "--set seq_len=N says how long the longest rows are"),
        **_unknown_for_its_length(report, reason, request),
    )


def _unknown_for_its_length(report: Report, reason: str, request: Request) -> dict[str, Any]:
    may_launch = not report.is_refused_by_findings and not request.policy.refuses(Answer.UNKNOWN)
    verdict = Verdict(Answer.UNKNOWN, reason, missing=("seq_len",))
    return {"verdict": verdict, "may_launch": may_launch}
