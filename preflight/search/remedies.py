"""Finding remedies: the fastest writable plan that fits, and what would fit if training may change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import field, replace
from functools import cached_property
from typing import Any

from preflight.devices.step_time import StepTime, estimate_step_time
from preflight.judge import Judged, checked_item, judge_plan
from preflight.launch import LaunchPlan
from preflight.memory import Level
from preflight.plugins import PluginManager
from preflight.policy import Policy
from preflight.readings import MayBe, versions_at_the_ends
from preflight.remedy import BESIDE_TRAINING, UNPROVED, Remedy
from preflight.report import Report, TriedRemedy
from preflight.rewrite import Rewrite
from preflight.rewriting import write_checked, write_draft
from preflight.search.best_plans import Solution, best_plans, hardened
from preflight.search.lattice import Edits, Lattice, Reached
from preflight.units import format_gib
from preflight.values import dataclass
from preflight.verdict import Answer
from preflight.writers.launch import edits_by_hand

Wanted = Callable[[Remedy], bool]
Write = Callable[[LaunchPlan, LaunchPlan, PluginManager], Rewrite | None]
FITTING: tuple[Answer, ...] = (Answer.FITS,)
STARTING: tuple[Answer, ...] = (Answer.FITS, Answer.TIGHT)


@dataclass(frozen=True)
class Search:
    """What every search of one launch needs."""

    written: Judged
    """The launch as the user wrote it."""
    plugins: PluginManager
    policy: Policy
    write: Write
    """How a plan is written back: `write_checked` for what may be started, `write_draft` for what is only offered."""
    written_time: StepTime
    known: dict[int, tuple[Judged, dict[Edits, Judged]]] = field(default_factory=dict)
    """What was judged already, by the plan that a lattice starts from: lattices of fewer levers ask again."""
    peaks: dict[str, int] = field(default_factory=dict)
    """What lattices order their levers by, once it was estimated from any start."""
    lattices: dict[tuple[int, Wanted], Lattice] = field(default_factory=dict)
    """Lattices by the plan that they start from and what may be used: one that fits and one that may are looked for."""

    whole: dict[int, tuple[Judged, Judged]] = field(default_factory=dict)
    """What was judged under all versions, by what was judged under some."""

    def judged(self, plan: LaunchPlan) -> Judged:
        """Judge a plan, of the versions that it may have under those alone that took least and most as written."""
        written = self.written
        return judge_plan(plan, self.plugins, self.policy, written.model, written.device, self.ends)

    @cached_property
    def ends(self) -> MayBe:
        """The versions of the readings at the ends of the launch as written."""
        return versions_at_the_ends(self.written.readings)

    def in_full(self, judged: Judged) -> Judged:
        """Judge a plan that answers under all the versions that it may have."""
        if not self.ends:
            return judged
        if id(judged) not in self.whole:
            written, asked = self.written, (self.plugins, self.policy)
            whole = judge_plan(judged.plan, *asked, written.model, written.device)
            self.whole[id(judged)] = judged, whole
        return self.whole[id(judged)][1]

    def lattice(self, start: Judged, wanted: Wanted) -> Lattice:
        key = id(start), wanted
        if key not in self.lattices:
            _, known = self.known.setdefault(id(start), (start, {}))
            self.lattices[key] = Lattice(
                start, self.plugins, self.judged, wanted, self.written_time, known, self.peaks
            )
        return self.lattices[key]

    def safe_lattices(self, start: Judged) -> Iterator[Lattice]:
        """Yield the lattice of what stays on the device, then that of all safe remedies if it has another lever."""
        first = self.lattice(start, self.stays_on_device)
        yield first
        # Asked for once the first was searched: whatever the other could use, it was offered there too.
        if any(self.is_safe(remedy) for remedy in first.refused.values()):
            yield self.lattice(start, self.is_safe)

    def tried(
        self, reached: Reached, start: Judged, factor: float = 1.0
    ) -> tuple[TriedRemedy, ...]:
        """Return each remedy of a path with the plan that it and those before it make."""
        found = []
        plan, claimed = start.plan, factor
        for remedy in reached.path:
            plan = plan.with_edits(remedy.edits)
            claimed *= remedy.step_time_factor
            found.append(self.one(remedy, self.judged(plan), claimed))
        return tuple(found)

    def one(self, remedy: Remedy, judged: Judged, claimed: float) -> TriedRemedy:
        assert judged.estimate is not None and judged.model is not None
        time = estimate_step_time(judged.plan, judged.model, judged.device)
        return TriedRemedy(
            remedy,
            judged.plan,
            judged.estimate,
            judged.verdict,
            time.factor_of(self.written_time) * claimed,
            time.parts,
        )

    def offered(self, plan: LaunchPlan) -> list[Remedy]:
        """Return every plugin's remedies for a plan."""
        items = self.plugins.collect(
            "preflight_remedies", plan=plan, model=self.written.model, device=self.written.device
        )
        return [checked_item(item, Remedy, owner, "preflight_remedies") for owner, item in items]

    def is_safe(self, remedy: Remedy) -> bool:
        """Tell whether a remedy may be used without changing what is trained; one that is not proved, if asked for."""
        is_asked_for = remedy.keeps_training and remedy.id in self.policy.allow
        return (remedy.is_safe or is_asked_for) and self.policy.may_apply(remedy)

    def stays_on_device(self, remedy: Remedy) -> bool:
        """Tell whether a safe remedy needs no host memory of which nobody knows how much there is."""
        return self.is_safe(remedy) and not self.waits_for_host(remedy)

    def waits_for_host(self, remedy: Remedy) -> bool:
        """Tell whether a safe remedy takes host memory of which nobody knows how much there is."""
        is_known = self.written.plan.host_memory_gib is not None
        may_use_host = is_known or remedy.id in self.policy.allow
        return self.is_safe(remedy) and remedy.needs_host and not may_use_host


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
    assert start.model is not None
    time = estimate_step_time(start.plan, start.model, start.device)
    search = Search(start, plugins, policy, write, time)
    unwritable: list[tuple[TriedRemedy, ...]] = []
    was_tight = report.verdict.answer is Answer.TIGHT
    for found in _answers(search, was_tight, num_alternatives, unwritable):
        return _treated(report, found, policy)
    if not unwritable or was_tight:
        return report
    for path in unwritable:
        edits = edits_by_hand(start.plan, path[-1].plan)
        if edits:
            return replace(report, by_hand=(*path[:-1], _with_edits(path[-1], edits)))
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
        def is_answer(judged: Judged) -> bool:
            if judged.verdict.answer not in answers:
                return False
            if was_tight and not _is_lower(judged, start):
                return False
            return search.in_full(judged).verdict.answer in answers

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
        rewrite = search.write(search.written.plan, lattice.start.plan, search.plugins)
        if rewrite is not None:
            return Treatment(first, rewrite)
    while True:
        found = [s for s in best_plans(lattice, is_answer, most) if s.reached.path]
        if not found:
            return None
        if found[0].judged.verdict.answer is Answer.TIGHT:
            found[0] = hardened(lattice, found[0])
        best = found[0]
        rewrite = search.write(search.written.plan, best.judged.plan, search.plugins)
        if rewrite is not None:
            paths = tuple((*first, *search.tried(s.reached, lattice.start, claimed)) for s in found)
            return Treatment(paths[0], rewrite, paths[1:])
        unwritable.append((*first, *search.tried(best.reached, lattice.start, claimed)))
        lattice = search.lattice(
            lattice.start, _without(lattice.wanted, _culprits(search, lattice, best))
        )


def _without(wanted: Callable[[Remedy], bool], removed: frozenset[str]) -> Callable[[Remedy], bool]:
    return lambda remedy: remedy.id not in removed and wanted(remedy)


def _culprits(search: Search, lattice: Lattice, best: Solution) -> frozenset[str]:
    """Return the levers of a path that cannot be written alone; all of them where each can."""
    alone = set()
    for remedy in best.reached.path:
        plan = lattice.start.plan.with_edits(remedy.edits)
        if search.write(search.written.plan, plan, search.plugins) is None:
            alone.add(remedy.id)
    return frozenset(alone or best.ids)


def _is_lower(judged: Judged, start: Judged) -> bool:
    before, after = start.estimate, judged.estimate
    assert before is not None and after is not None
    return after.device_peak_bytes < before.device_peak_bytes


def _treated(report: Report, found: Treatment, policy: Policy) -> Report:
    may_launch = not policy.refuses(found.tried[-1].verdict.answer) and not any(
        policy.refuses_finding(finding.id, finding.severity) for finding in report.findings
    )
    last = found.tried[-1]
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
        may_launch=may_launch,
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
    launch that is tight what needs host memory of which nobody knows how much there is.
    Nothing is suggested for a launch that fits, as written or as rewritten.
    """
    if report.applied and report.final_verdict.answer is Answer.FITS:
        return report
    if report.verdict.answer is Answer.TIGHT:
        return report
    assert start.model is not None
    time = estimate_step_time(start.plan, start.model, start.device)
    search = Search(start, plugins, policy, write, time)
    mildest: dict[str, TriedRemedy] = {}
    for remedy in (*_back_to_device(report, policy), *_to_suggest(search, bool(report.applied))):
        settled = mildest.get(remedy.id)
        if settled is not None and settled.verdict.answer is Answer.FITS:
            continue  # a harsher dose of what fits already
        judged = search.judged(report.plan.with_edits(remedy.edits))
        if judged.estimate is None:
            continue
        best = search.one(remedy, judged, remedy.step_time_factor)
        if judged.verdict.answer is not Answer.FITS:
            best = _with_safe_help(best, judged, search)
        mildest[remedy.id] = best
    suggested = list(mildest.values())
    order = [Answer.FITS, Answer.TIGHT, Answer.UNKNOWN, Answer.DOES_NOT_FIT]
    suggested.sort(key=lambda tried: order.index(tried.verdict.answer))
    suggested = [_told_if_writable(report.plan, tried, plugins, write) for tried in suggested]
    return replace(report, suggested=tuple(suggested))


def _to_suggest(search: Search, is_tight: bool) -> Iterator[Remedy]:
    """Yield what the search may not apply, and may say; and what it left out where a tight plan needs no host."""
    for remedy in search.offered(search.written.plan):
        was_left_out = is_tight and search.waits_for_host(remedy)
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
    can_write = write(before, tried.plan, plugins) is not None
    remedy = replace(tried.remedy, extra={**tried.remedy.extra, "can_write": can_write})
    edits = () if can_write else edits_by_hand(before, tried.plan)
    return _with_edits(replace(tried, remedy=remedy), edits)


def _with_edits(tried: TriedRemedy, edits: tuple[str, ...]) -> TriedRemedy:
    """Return a remedy that tells the edits a person makes for it, and for those beside it."""
    if not edits:
        return tried
    extra = {**tried.remedy.extra, "edits": edits}
    return replace(tried, remedy=replace(tried.remedy, how="; ".join(edits), extra=extra))


def _with_safe_help(alone: TriedRemedy, judged: Judged, search: Search) -> TriedRemedy:
    """Return the suggestion together with the safe remedies that make it fit best; alone where none does."""
    accepted = [FITTING]
    if alone.verdict.answer is Answer.DOES_NOT_FIT:
        accepted.append(STARTING)
    for answers in accepted:
        for lattice in search.safe_lattices(judged):
            found = best_plans(lattice, _one_of(answers))
            if found:
                return _combined(alone, found[0], search)
    return alone


def _one_of(answers: tuple[Answer, ...]) -> Callable[[Judged], bool]:
    return lambda judged: judged.verdict.answer in answers


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
