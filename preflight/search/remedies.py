"""Finding remedies: the fastest writable plan that fits and trains the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from preflight.judge import Judged
from preflight.plugin_manager import PluginManager
from preflight.policy import Policy
from preflight.remedy import UNPROVED
from preflight.report import Report, TriedRemedy
from preflight.rewrite import Rewrite
from preflight.rewriting import write_checked, write_with_copy
from preflight.search.best_plans import best_plans, hardened
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
from preflight.units import format_gib
from preflight.values import dataclass, replace
from preflight.verdict import Answer
from preflight.writers.launch import edits_by_hand


def treat(
    report: Report,
    start: Judged,
    plugins: PluginManager,
    policy: Policy,
    num_alternatives: int = 0,
    write: Write = write_checked,
) -> Report:
    """Return the report with the fastest safe remedies that make the launch fit, and its rewrite.

    A launch that is tight as written is changed only at no cost in step time, and only for a lower peak.
    """
    search = Search(start, plugins, policy, write)
    unwritable: list[tuple[TriedRemedy, ...]] = []
    was_tight = report.verdict.answer is Answer.TIGHT
    answers = _answers(search, was_tight, num_alternatives, unwritable)
    found = next(answers, None)
    if found is not None and policy.allow - UNPROVED and not found.tried[-1].fits_cheaply:
        # what is dear gives way to what is asked for; what only lacks a proof is looked at with what is safe
        found = next((other for other in answers if other.tried[-1].fits_cheaply), found)
    if found is not None:
        return _treated(report, found, policy)
    if not unwritable or was_tight:
        return report
    for path in unwritable:
        edits = edits_by_hand(start.plan, path[-1].plan)
        if edits:
            last = told_by_hand(path[-1], edits)
            can_copy = write_with_copy(start.plan, last.plan, plugins) is not None
            extra = {**last.remedy.extra, "can_copy": can_copy}
            last = replace(last, remedy=replace(last.remedy, extra=extra))
            return replace(report, by_hand=(*path[:-1], last))
    ids = " + ".join(tried.remedy.id for tried in unwritable[0])
    note = f"{ids} would make it fit but cannot be written into this launch"
    return replace(report, notes=(*report.notes, note))


@dataclass(frozen=True)
class Treatment:
    """An answer that can be written."""

    tried: tuple[TriedRemedy, ...]
    rewrite: Rewrite
    alternatives: tuple[tuple[TriedRemedy, ...], ...] = ()


def _answers(
    search: Search,
    was_tight: bool,
    num_alternatives: int,
    unwritable: list[tuple[TriedRemedy, ...]],
) -> Iterator[Treatment]:
    """Yield the best writable answer of each way, in the order of preference.

    Safe remedies on the device, then those that need host memory too, then an allowed one with safe help, then any
    mix: a cut sequence is a faster step too, so step time alone would choose the harshest cut. What is tight on the
    device comes before what needs host memory, unless something is allowed or tight is refused.
    """
    start, policy = search.written, search.policy

    def best(
        answers: tuple[Answer, ...], lattice: Lattice, first: tuple[TriedRemedy, ...] = ()
    ) -> Iterator[Treatment]:
        has_one = search.has_one_of(answers)

        def is_answer(judged: Judged) -> bool:
            return not (was_tight and not _is_lower(judged, start)) and has_one(judged)

        found = _writable(search, lattice, is_answer, 1 + num_alternatives, first, unwritable)
        if found is not None and not (was_tight and found.tried[-1].step_time_factor > 1.005):
            yield found

    on_device = search.lattice(start, search.stays_on_device)
    if was_tight or not (policy.allow or policy.refuses(Answer.TIGHT)):
        yield from best(FITTING, on_device)
        yield from best(STARTING, on_device)
    if was_tight:
        return
    for answers in (FITTING, STARTING):
        for lattice in search.safe_lattices(start):
            yield from best(answers, lattice)
        for remedy in search.offered(start.plan):
            if search.is_safe(remedy) or not policy.may_apply(remedy):
                continue
            judged = search.judged(start.plan.with_edits(remedy.edits))
            if judged.estimate is None:
                continue
            tried = search.one(remedy, judged, remedy.step_time_factor)
            yield from best(answers, search.lattice(judged, search.is_safe), (tried,))
        if policy.allow:
            yield from best(answers, search.lattice(start, policy.may_apply))


def _writable(
    search: Search,
    lattice: Lattice,
    is_answer: Callable[[Judged], bool],
    most: int,
    first: tuple[TriedRemedy, ...],
    unwritable: list[tuple[TriedRemedy, ...]],
) -> Treatment | None:
    """Return the best answer that can be written; levers that cannot be are taken out of the lattice."""
    claimed = 1.0
    for tried in first:
        claimed *= tried.remedy.step_time_factor
    if first and is_answer(lattice.start):
        rewrite = search.written_as(lattice.start, is_answer)
        if rewrite is not None:
            return Treatment(first, rewrite)
    while True:
        found = [s for s in best_plans(lattice, is_answer, most) if s.reached.path]
        if not found:
            return None
        if found[0].judged.verdict.answer is Answer.TIGHT:
            found[0] = hardened(lattice, found[0], is_answer)
        best = found[0]
        rewrite = search.written_as(best.judged, is_answer)
        if rewrite is not None:
            paths = tuple((*first, *search.tried(s.reached, lattice.start, claimed)) for s in found)
            return Treatment(paths[0], rewrite, paths[1:])
        unwritable.append((*first, *search.tried(best.reached, lattice.start, claimed)))
        lattice = search.lattice(
            lattice.start, without(lattice.wanted, culprits(search, lattice, best))
        )


def _is_lower(judged: Judged, start: Judged) -> bool:
    before, after = start.estimate, judged.estimate
    assert before is not None and after is not None
    return after.device_peak_bytes < before.device_peak_bytes


def _treated(report: Report, found: Treatment, policy: Policy) -> Report:
    last = found.tried[-1]
    is_refused = report.is_refused_by_findings or policy.refuses(last.verdict.answer)
    if report.plan.host_memory_gib is None and any(t.remedy.needs_host for t in found.tried):
        needed = format_gib(last.estimate.host_peak_bytes_per_node)
        note = (
            f"rewritten, a node needs {needed} of host memory, which is assumed to be there:"
            " --set host_memory_gib=GIB judges it"
        )
        report = replace(report, notes=(*report.notes, note))
    return replace(
        report,
        applied=found.tried,
        alternatives=found.alternatives,
        rewrite=found.rewrite,
        may_launch=not is_refused,
    )
