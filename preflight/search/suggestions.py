"""What would fit if training may change: said beside its safe help, and never applied by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from preflight.judge import Judged
from preflight.launch import LaunchPlan
from preflight.memory import Level
from preflight.plugin_manager import PluginManager
from preflight.policy import Policy
from preflight.remedy import BESIDE_TRAINING, UNPROVED, Remedy
from preflight.report import Report, TriedRemedy
from preflight.rewriting import write_draft
from preflight.search.best_plans import Solution, best_plans, steps_of
from preflight.search.lattice import Lattice
from preflight.search.trying import (
    FITTING,
    STARTING,
    Search,
    Write,
    culprits,
    told_by_hand,
    without,
)
from preflight.values import replace
from preflight.verdict import Answer
from preflight.writers.launch import (
    edits_by_hand,
    lacking_release,
    reads_trainer_flags,
    write_with_script,
)


def suggest(
    report: Report,
    start: Judged,
    plugins: PluginManager,
    policy: Policy,
    write: Write = write_draft,
) -> Report:
    """Return the report with remedies that change training, each with the safe ones it needs beside it.

    Where the host is too small, keeping on the device what is offloaded is said as well, and beside a rewritten
    launch that is tight what needs host memory of which nobody knows how much there is. For one that is tight as
    written, which is changed at no cost in step time alone, what costs some is said too.
    Nothing is suggested for a launch that fits, as written or as rewritten, unless the rewritten one is dear: then
    what is cheaper stands beside it, and unasked neither is started.
    """
    is_asked = any(tried.remedy.id in policy.allow for tried in report.applied)
    if report.final_verdict.answer is Answer.FITS and (is_asked or not report.is_dear):
        return report
    search = Search(start, plugins, policy, write)
    mildest: dict[str, TriedRemedy] = {}
    was_tight = report.verdict.answer is Answer.TIGHT
    for remedy in (
        *_back_to_device(report, policy),
        *_to_suggest(search, was_tight, bool(report.applied)),
    ):
        if report.applied and not report.applied[-1].plan.is_changed_by(remedy.edits):
            continue  # the rewritten launch has it already
        if report.is_dear and (remedy.id == "seq_len" or _is_enough(mildest.values())):
            continue
        settled = mildest.get(remedy.id)
        fits_already = settled is not None and settled.verdict.answer is Answer.FITS
        if fits_already and not _is_dear_dose(settled):
            continue  # a harsher dose of what fits already
        judged = search.in_full(search.judged(report.plan.with_edits(remedy.edits)))
        if judged.estimate is None:
            continue
        best = search.one(remedy, judged, remedy.step_time_factor)
        if judged.verdict.answer is not Answer.FITS:
            if fits_already:
                continue  # with help that is dear, which a harsher dose alone may do without
            best = _with_safe_help(best, judged, search)
        mildest[remedy.id] = best
    suggested = list(mildest.values())
    if report.is_dear:
        suggested = [tried for tried in suggested if tried.fits_cheaply]
    suggested.sort(key=_order)
    suggested = [_told_if_writable(report.plan, tried, plugins, write) for tried in suggested]
    is_held_back = report.is_dear and bool(suggested) and not is_asked
    may_launch = report.may_launch and not is_held_back
    return replace(report, suggested=tuple(suggested), may_launch=may_launch)


MOST_BESIDE = 2
"""Cheaper ways that are looked for beside a rewrite that is dear."""
_ANSWERS = [Answer.FITS, Answer.TIGHT, Answer.UNKNOWN, Answer.DOES_NOT_FIT]


def _order(tried: TriedRemedy) -> tuple[bool, bool, int, bool, int]:
    """Order suggestions: what keeps the training first, then what fits, and of those the fastest step.

    Shorter sequences come last: less is computed, so that their step would always be the fastest.
    """
    remedy, answer = tried.remedy, tried.verdict.answer
    return (
        answer is Answer.DOES_NOT_FIT,
        not remedy.keeps_training,
        _ANSWERS.index(answer),
        remedy.id == "seq_len",
        steps_of(tried.step_time_factor),
    )


def _is_enough(found: Iterable[TriedRemedy]) -> bool:
    """Tell whether enough stands beside a dear rewrite: each costs a search of its own."""
    return sum(tried.fits_cheaply for tried in found) >= MOST_BESIDE


def _is_dear_dose(settled: TriedRemedy | None) -> bool:
    """Tell whether a remedy that keeps the training fits with help that takes half as long again: a harsher dose of it may
    fit by itself, as a smaller share of an engine does without states on the host."""
    if settled is None:
        return False
    return settled.remedy.keeps_training and settled.is_dear


def _to_suggest(search: Search, was_tight: bool, is_applied: bool) -> Iterator[Remedy]:
    """Yield what the search may not apply, and may say; and what it left out for a plan that is tight.

    As written such a plan is changed at no cost alone; as rewritten it needs no host.
    """
    for remedy in search.offered(search.written.plan):
        was_left_out = was_tight or (is_applied and search.waits_for_host(remedy))
        if search.policy.may_apply(remedy) and not was_left_out:
            continue
        if remedy.id in search.policy.forbid:
            continue
        # asked for or not at all; what changes training is only ever said
        if not (remedy.keeps_training and remedy.id in UNPROVED - BESIDE_TRAINING):
            yield remedy


def _back_to_device(report: Report, policy: Policy) -> Iterator[Remedy]:
    """Yield ways to need less of a host that is too small for what is offloaded to it."""
    if report.verdict.failing_level is not Level.HOST:
        return
    from preflight.search.headroom import BACK_TO_DEVICE, upward_edits

    for ways in upward_edits(report.plan):
        for remedy in ways:
            if remedy is None or remedy.id in policy.forbid:
                continue
            if remedy.id in BACK_TO_DEVICE:
                yield replace(remedy, how=BACK_TO_DEVICE[remedy.id])


def _told_if_writable(
    before: LaunchPlan, tried: TriedRemedy, plugins: PluginManager, write: Write
) -> TriedRemedy:
    """Return a suggestion that says in `extra` whether `--allow` could write it into the launch."""
    if tried.verdict.answer is Answer.DOES_NOT_FIT or not before.is_read:
        return tried
    rewrite = write(before, tried.plan, plugins)
    can_write = rewrite is not None
    edits = () if can_write else edits_by_hand(before, tried.plan)
    can_copy = bool(edits) and write_with_script(before, tried.plan) is not None
    extra = {**tried.remedy.extra, "can_write": can_write, "can_copy": can_copy}
    is_of_library = before.script_facts.is_of_library
    if not can_write and not is_of_library and (lacking := lacking_release(before, tried.plan)):
        extra["why_not"] = lacking  # of the flags of a script, which a framework has not
    how = tried.remedy.how
    if is_of_library and rewrite is not None and not rewrite.files and rewrite.argv_diff:
        how = " ".join(added for _, added in rewrite.argv_diff)
    elif is_of_library and rewrite is None and how.startswith(("--", "in the script")):
        how = ""  # there is no script, and no flag of the framework's that is known
    elif not can_write and not edits and how.startswith("--") and not reads_trainer_flags(before):
        how = f"in the script, which reads no such flags, what TRL's command line calls {how}"
    remedy = replace(tried.remedy, extra=extra, how=how)
    return told_by_hand(replace(tried, remedy=remedy), edits)


def _with_safe_help(alone: TriedRemedy, judged: Judged, search: Search) -> TriedRemedy:
    """Return the suggestion together with the safe remedies that make it fit best; alone where none does."""
    accepted = [FITTING]
    if alone.verdict.answer is Answer.DOES_NOT_FIT:
        accepted.append(STARTING)
    for answers in accepted:
        for lattice in search.safe_lattices(judged):
            found = best_plans(lattice, search.has_one_of(answers))
            if search.written.plan.script_facts.is_of_library:
                found = _sayable(found, lattice, answers, search)
            if found:
                return _combined(alone, found[0], search)
    return alone


def _sayable(
    found: list[Solution], lattice: Lattice, answers: tuple[Answer, ...], search: Search
) -> list[Solution]:
    """Return answers whose help a framework's launch can say, as far as it can say what is suggested.

    A script is a person's to edit, and a framework is not.
    """

    def can_say(plan: LaunchPlan) -> bool:
        return search.write(search.written.plan, plan, search.plugins) is not None

    if not can_say(lattice.start.plan):
        return found
    while found and not can_say(found[0].judged.plan):
        left = without(lattice.wanted, culprits(search, lattice, found[0]))
        lattice = search.lattice(lattice.start, left)
        found = best_plans(lattice, search.has_one_of(answers))
    return found


def _combined(alone: TriedRemedy, best: Solution, search: Search) -> TriedRemedy:
    edits: dict[str, Any] = dict(alone.remedy.edits)
    claimed = alone.remedy.step_time_factor
    for remedy in best.reached.path:
        edits.update(remedy.edits)
        claimed *= remedy.step_time_factor
    combined = replace(
        alone.remedy,
        edits=edits,
        extra={**alone.remedy.extra, "with": {r.id: r.title for r in best.reached.path}},
    )
    return search.one(combined, best.judged, claimed)
