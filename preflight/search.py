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
from preflight.frozen import dataclass
from preflight.launch import LaunchPlan
from preflight.plugins import PluginManager
from preflight.policy import Policy
from preflight.remedy import Remedy
from preflight.report import Report, TriedRemedy
from preflight.rewrite import Rewrite
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
    report: Report, plugins: PluginManager, policy: Policy, judge: Judge, write: Write
) -> Report:
    """Return the report with the cheapest safe remedies that make the launch fit, and its rewrite.

    A launch that is tight as written is changed only at no cost in step time.
    """
    start = judge(report.plan, plugins, policy, report.model, report.device)
    was_tight = report.verdict.answer is Answer.TIGHT
    fallback: tuple[Step, Rewrite] | None = None
    unwritable: list[str] = []
    for step in visit(start, plugins, policy, judge, policy.may_apply):
        answer = step.judged.verdict.answer
        if answer not in (Answer.FITS, Answer.TIGHT):
            continue
        if was_tight and (answer is Answer.TIGHT or step.cost > 1.0):
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


def _treated(report: Report, step: Step, rewrite: Rewrite, policy: Policy) -> Report:
    may_launch = not policy.refuses(step.judged.verdict.answer)
    return replace(report, applied=step.tried, rewrite=rewrite, may_launch=may_launch)


def suggest(report: Report, plugins: PluginManager, policy: Policy, judge: Judge) -> Report:
    """Return the report with remedies that change training, each with the safe ones it needs beside it.

    Nothing is suggested for a launch that fits, as written or as rewritten.
    """
    if report.applied and report.final_verdict.answer is Answer.FITS:
        return report
    if report.verdict.answer is Answer.TIGHT:
        return report
    start = judge(report.plan, plugins, policy, report.model, report.device)
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
    return replace(report, suggested=tuple(suggested))


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
    helpers = tuple(remedy.id for remedy in step.path)
    combined = replace(
        alone.remedy,
        edits=edits,
        title=f"{alone.remedy.title}, with {', '.join(helpers)}",
        step_time_factor=alone.remedy.step_time_factor * step.cost,
        extra={**alone.remedy.extra, "with": list(helpers)},
    )
    judged = step.judged
    assert judged.estimate is not None
    return TriedRemedy(combined, judged.plan, judged.estimate, judged.verdict)
