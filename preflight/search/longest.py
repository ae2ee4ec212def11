"""The longest rows with which a launch fits, as written or with a remedy, where its length is only what rows are cut at or nobody
said it; and its answer then."""

from __future__ import annotations

from typing import Any

from preflight.formulas.limits.left_out import LENGTH_OF_IMAGES, is_cut_only, makes_rows
from preflight.formulas.limits.row_limits import longest_row
from preflight.judge import Judged, checked_item, judge_plan
from preflight.plugin_manager import PluginManager
from preflight.policy import Policy
from preflight.remedy import BESIDE_TRAINING, UNPROVED, Remedy
from preflight.report import Report
from preflight.request import Request, is_override
from preflight.search.largest import (
    IS_NOT_REFUSED,
    MOST_TOKENS,
    NEARLY_THE_LARGEST,
    STEP,
    SURELY_FITS,
    largest,
)
from preflight.values import NamedTuple, dataclass, replace
from preflight.verdict import Answer, Verdict

SURELY_REACHED = 0.5
"""Share of the length at which rows are cut that some row is taken to reach, for a refusal: who cuts at twice what the
data has would cut at half of it. Published runs with alpaca's rows hold half of what their cap takes."""
MOST_OPEN = 3
"""Open fields, versions among them, with which it is still asked: with more the lengths say little, and each of them takes
many readings."""


class RowsThatFit(NamedTuple):
    """What the shortest rows tell of a launch whose length is only a cap, or that nobody said."""

    longest: int | None = None
    """The most tokens of a row, to a multiple of STEP, with which it is not refused, or surely fits; None where no length helps."""
    is_sure: bool = True
    """Whether it fits with them in every reading; where not, in one at least."""
    ends_sooner: bool = False
    """Whether it is refused for rows that a model may end sooner: no data tells whether one is as long."""


def rows_that_fit(start: Judged, plugins: PluginManager, policy: Policy) -> RowsThatFit:
    """Return how long rows may be.

    Asked of a refusal whose length is only a cap, of a length that nobody said and that the answer waits for, and of a
    cap that rows with images may never reach. Where only a refusal is to go, one reading that goes is enough; of an open
    length, and of rows that a model makes, every reading has to fit.
    """
    most = most_looked_at(start)
    if most is None:
        return RowsThatFit()
    is_refused, is_made = start.verdict.answer is Answer.DOES_NOT_FIT, makes_rows(start.plan)
    aim = IS_NOT_REFUSED if is_refused and not is_made else SURELY_FITS
    plan = start.plan.with_edits({"seq_len": STEP})
    shortest = judge_plan(plan, plugins, policy, start.model, start.device, settles=False)
    longest, is_sure = None, True
    if aim.is_met(shortest):
        longest = largest(shortest, "seq_len", STEP, most, aim, plugins, policy)
    if longest is not None and aim is IS_NOT_REFUSED:
        there = plan.with_edits({"seq_len": longest})
        judged = judge_plan(there, plugins, policy, start.model, start.device, settles=False)
        is_sure = judged.verdict.answer in (Answer.FITS, Answer.TIGHT)
    ends_sooner = is_refused and is_made and IS_NOT_REFUSED.is_met(shortest)
    return RowsThatFit(longest, is_sure, ends_sooner)


def most_looked_at(start: Judged) -> int | None:
    """Return the longest row that is asked for; None where the answer does not wait for a length."""
    plan, verdict = start.plan, start.verdict
    if plan.seq_len is not None:
        waits = verdict.unpriced == (LENGTH_OF_IMAGES,) and not verdict.missing
        is_asked = verdict.answer is Answer.DOES_NOT_FIT or (
            verdict.answer is Answer.UNKNOWN and waits
        )
        return plan.seq_len if is_asked and is_cut_only(plan) else None
    waits = verdict.missing == ("seq_len",) and not verdict.unpriced
    if verdict.answer is not Answer.UNKNOWN or not waits or plan.generation is not None:
        return None  # of a rollout prompts and completions have a length each
    if start.readings is not None and "seq_len" in start.readings.ranges:
        most: int = start.readings.may_be["seq_len"][-1]
        return most
    return _positions(start)


def longest_row_of(start: Judged) -> int:
    """Return the longest row that a launch's model takes, else what its config was made for."""
    taken = None if start.model is None else longest_row(start.plan, start.model)
    return taken or _positions(start)


def _positions(start: Judged) -> int:
    positions = start.model.config.get("max_position_embeddings") if start.model else None
    return positions if isinstance(positions, int) else MOST_TOKENS


@dataclass(frozen=True)
class Longer:
    """A remedy, and the most tokens of a row with which the launch fits under every reading once it is made."""

    remedy: Remedy
    seq_len: int

    def to_dict(self) -> dict[str, object]:
        """Return it as an item of `longest_seq_len_with` of the JSON contract."""
        remedy = self.remedy
        return {
            "id": remedy.id,
            "title": remedy.title,
            "safety": remedy.safety,
            "seq_len": self.seq_len,
        }


def longer_rows(
    start: Judged, as_written: int | None, plugins: PluginManager, policy: Policy
) -> tuple[Longer, ...]:
    """Return the remedies that make longer rows fit than fit as written, each alone: those that keep the training
    first, and of these the one with the longest rows.

    Of doses of one remedy the first that helps stands for all: others cost an estimate each, and more of the step.
    """
    most = most_looked_at(start)
    if most is None or start.plan.seq_len is not None or as_written == most:
        return ()
    if start.readings is not None and len(start.readings.may_be) > MOST_OPEN:
        return ()
    aim = NEARLY_THE_LARGEST
    dearest = aim.deciding(start)
    found: dict[str, Longer] = {}
    items = plugins.collect(
        "preflight_remedies", plan=start.plan, model=start.model, device=start.device
    )
    for owner, item in items:
        remedy = checked_item(item, Remedy, owner, "preflight_remedies")
        is_held_back = remedy.id in UNPROVED - BESIDE_TRAINING or remedy.id in policy.forbid
        if is_held_back or remedy.id in found or "seq_len" in remedy.edits:
            continue
        shortest = start.plan.with_edits({**remedy.edits, "seq_len": STEP})
        # Of open values those that take most as written, until a length is found.
        judged = judge_plan(shortest, plugins, policy, start.model, start.device, dearest)
        if not aim.is_met(judged):
            continue
        length = largest(judged, "seq_len", STEP, most, aim, plugins, policy)
        if length is not None and length > max(as_written or 0, STEP):
            found[remedy.id] = Longer(remedy, length)
    return tuple(
        sorted(found.values(), key=lambda one: (not one.remedy.keeps_training, -one.seq_len))
    )


def with_longest_rows(
    report: Report, judged: Judged, plugins: PluginManager, request: Request
) -> Report:
    """Return the report with the longest rows that fit, where the length is only a cap or nobody said it."""
    length, is_sure, ends_sooner = rows_that_fit(judged, plugins, request.policy)
    found: dict[str, Any] = {} if length is None else {"longest_seq_len": length}
    if request.finds_room:
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
    fit = "fit" if is_sure else "may fit"
    note = (
        f"{cap:,} tokens are where rows are cut, and no data was seen: rows of up to"
        f" {length:,} tokens {fit} as written; --dataset FILE says how long they are"
    )
    report = replace(report, notes=(*report.notes, note))
    is_helped = report.final_verdict.answer is not Answer.DOES_NOT_FIT or bool(report.by_hand)
    if is_told or is_helped or length < SURELY_REACHED * cap:
        return report  # a sure way on, for rows as long as the cap, is worth more than the doubt
    reason = f"rows of up to {length:,} of the {cap:,} tokens at which they are cut {fit}"
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
