"""Finding remedies: the cheapest writable plan that fits, and what would fit if training may change.

Exact over the remedies offered: plans are visited in the order of their step-time factor, then
number of edits, so the first one that fits and can be written is the answer. Deterministic.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from preflight.errors import HookFailed
from preflight.launch import LaunchPlan
from preflight.plugins import PluginManager
from preflight.policy import Policy
from preflight.remedy import Remedy
from preflight.report import Report, TriedRemedy
from preflight.rewrite import Rewrite
from preflight.values import dataclass
from preflight.verdict import Answer

if TYPE_CHECKING:
    from preflight.pipeline import Judged

Judge = Callable[..., "Judged"]
Write = Callable[[LaunchPlan, LaunchPlan, PluginManager], "Rewrite | None"]

MAX_VISITED = 400
"""Plans estimated at most in one search; the built-in safe remedies make fewer than 200."""


@dataclass(frozen=True)
class Step:
    """One visited plan: how it was reached, and what it is estimated at."""

    cost: float
    path: tuple[Remedy, ...]
    tried: tuple[TriedRemedy, ...]
    judged: Judged


def visit(
    start: Judged,
    plugins: PluginManager,
    policy: Policy,
    judge: Judge,
    wanted: Callable[[Remedy], bool],
) -> Iterator[Step]:
    """Yield reachable plans, cheapest step time first, fewest edits among equals."""
    counter = 0
    queue: list[tuple[float, int, int, Step]] = [(1.0, 0, 0, Step(1.0, (), (), start))]
    seen: set[str] = set()
    visited = 0
    while queue and visited < MAX_VISITED:
        _, _, _, step = heapq.heappop(queue)
        plan = step.judged.plan
        key = repr(plan)
        if key in seen:
            continue
        seen.add(key)
        if step.path:
            visited += 1
            yield step
        used = {remedy.id for remedy in step.path}
        for remedy in offered(plan, start, plugins):
            if remedy.id in used or not wanted(remedy):
                continue
            after = plan.with_edits(remedy.edits)
            if after == plan:
                continue
            judged = judge(after, plugins, policy, start.model, start.device)
            if judged.estimate is None:
                continue
            tried = TriedRemedy(remedy, after, judged.estimate, judged.verdict)
            cost = step.cost * remedy.step_time_factor
            counter += 1
            heapq.heappush(
                queue,
                (
                    round(cost, 6),
                    len(step.path) + 1,
                    counter,
                    Step(cost, (*step.path, remedy), (*step.tried, tried), judged),
                ),
            )


def offered(plan: LaunchPlan, start: Judged, plugins: PluginManager) -> list[Remedy]:
    """Return every plugin's remedies for a plan."""
    remedies = []
    for owner, item in plugins.collect("preflight_remedies", plan=plan, model=start.model):
        if not isinstance(item, Remedy):
            raise HookFailed(
                owner, "preflight_remedies", f"yielded {item!r}, which is not a Remedy"
            )
        remedies.append(item)
    return remedies


def treat(
    report: Report,
    start: Judged,
    plugins: PluginManager,
    policy: Policy,
    judge: Judge,
    write: Write,
) -> Report:
    """Return the report with the cheapest safe remedies that make the launch fit, and its rewrite.

    A launch that is tight as written is changed only at no cost in step time, and only for a lower peak.
    """
    was_tight = report.verdict.answer is Answer.TIGHT
    fallback: tuple[Step, Rewrite] | None = None
    unwritable: list[str] = []
    for step in candidates(start, plugins, policy, judge, may_change_training=not was_tight):
        answer = step.judged.verdict.answer
        if answer not in (Answer.FITS, Answer.TIGHT):
            continue
        if was_tight and (step.cost > 1.0 or not _is_lower(step, start)):
            continue
        if answer is Answer.TIGHT and fallback is not None:
            continue
        rewrite = write(report.plan, step.judged.plan, plugins)
        if rewrite is None:
            unwritable.append(" + ".join(remedy.id for remedy in step.path))
            continue
        if answer is Answer.FITS:
            return _treated(report, step, rewrite, policy)
        fallback = (step, rewrite)
    if fallback is not None:
        return _treated(report, *fallback, policy)
    if unwritable and not was_tight:
        note = f"{unwritable[0]} would make it fit but cannot be written into this launch"
        report = replace(report, notes=(*report.notes, note))
    return report


def candidates(
    start: Judged, plugins: PluginManager, policy: Policy, judge: Judge, may_change_training: bool
) -> Iterator[Step]:
    """Yield plans in the order of preference: safe remedies, then an allowed one with safe help, then any mix.

    A cut sequence is a faster step too, so step time alone would choose the harshest cut.
    """

    def is_safe(remedy: Remedy) -> bool:
        return remedy.is_safe and policy.may_apply(remedy)

    yield from visit(start, plugins, policy, judge, is_safe)
    if not may_change_training:
        return
    for remedy in offered(start.plan, start, plugins):
        if remedy.is_safe or not policy.may_apply(remedy):
            continue
        plan = start.plan.with_edits(remedy.edits)
        judged = judge(plan, plugins, policy, start.model, start.device)
        if judged.estimate is None:
            continue
        tried = TriedRemedy(remedy, plan, judged.estimate, judged.verdict)
        yield Step(remedy.step_time_factor, (remedy,), (tried,), judged)
        for step in visit(judged, plugins, policy, judge, is_safe):
            cost = remedy.step_time_factor * step.cost
            yield Step(cost, (remedy, *step.path), (tried, *step.tried), step.judged)
    if policy.allow:
        yield from visit(start, plugins, policy, judge, policy.may_apply)


def _is_lower(step: Step, start: Judged) -> bool:
    before, after = start.estimate, step.judged.estimate
    assert before is not None and after is not None
    return after.device_peak_bytes < before.device_peak_bytes


def _treated(report: Report, step: Step, rewrite: Rewrite, policy: Policy) -> Report:
    may_launch = not policy.refuses(step.judged.verdict.answer) and not any(
        policy.refuses_finding(finding.id, finding.severity) for finding in report.findings
    )
    return replace(report, applied=step.tried, rewrite=rewrite, may_launch=may_launch)


def suggest(
    report: Report,
    start: Judged,
    plugins: PluginManager,
    policy: Policy,
    judge: Judge,
    write: Write,
) -> Report:
    """Return the report with remedies that change training, each with the safe ones it needs beside it.

    Nothing is suggested for a launch that fits, as written or as rewritten.
    """
    if report.applied and report.final_verdict.answer is Answer.FITS:
        return report
    if report.verdict.answer is Answer.TIGHT:
        return report
    mildest: dict[str, TriedRemedy] = {}
    for remedy in offered(report.plan, start, plugins):
        if policy.may_apply(remedy) or remedy.id in policy.forbid:
            continue
        settled = mildest.get(remedy.id)
        if settled is not None and settled.verdict.answer is Answer.FITS:
            continue  # a harsher dose of what fits already
        plan = report.plan.with_edits(remedy.edits)
        judged = judge(plan, plugins, policy, report.model, report.device)
        if judged.estimate is None:
            continue
        best = TriedRemedy(remedy, plan, judged.estimate, judged.verdict)
        if judged.verdict.answer is not Answer.FITS:
            best = _with_safe_help(best, judged, plugins, policy, judge)
        mildest[remedy.id] = best
    suggested = list(mildest.values())
    order = [Answer.FITS, Answer.TIGHT, Answer.UNKNOWN, Answer.DOES_NOT_FIT]
    suggested.sort(key=lambda tried: order.index(tried.verdict.answer))
    suggested = [_told_if_writable(report.plan, tried, plugins, write) for tried in suggested]
    return replace(report, suggested=tuple(suggested))


def _told_if_writable(
    before: LaunchPlan, tried: TriedRemedy, plugins: PluginManager, write: Write
) -> TriedRemedy:
    """Return a suggestion that says in `extra` whether `--allow` could write it into the launch."""
    if tried.verdict.answer is Answer.DOES_NOT_FIT or before.source is None:
        return tried
    can_write = write(before, tried.plan, plugins) is not None
    remedy = replace(tried.remedy, extra={**tried.remedy.extra, "can_write": can_write})
    return replace(tried, remedy=remedy)


def _with_safe_help(
    alone: TriedRemedy, judged: Judged, plugins: PluginManager, policy: Policy, judge: Judge
) -> TriedRemedy:
    """Return the suggestion together with the fewest safe remedies that make it fit; alone where none does."""
    best = alone
    for step in visit(
        judged, plugins, policy, judge, lambda r: r.is_safe and r.id not in policy.forbid
    ):
        answer = step.judged.verdict.answer
        if answer is Answer.FITS or (
            answer is Answer.TIGHT and best.verdict.answer is Answer.DOES_NOT_FIT
        ):
            best = _combined(alone, step)
            if answer is Answer.FITS:
                break
    return best


def _combined(alone: TriedRemedy, step: Step) -> TriedRemedy:
    edits: dict[str, Any] = dict(alone.remedy.edits)
    for remedy in step.path:
        edits.update(remedy.edits)
    combined = replace(
        alone.remedy,
        edits=edits,
        step_time_factor=alone.remedy.step_time_factor * step.cost,
        extra={**alone.remedy.extra, "with": {remedy.id: remedy.title for remedy in step.path}},
    )
    judged = step.judged
    assert judged.estimate is not None
    return TriedRemedy(combined, judged.plan, judged.estimate, judged.verdict)
