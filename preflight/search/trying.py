"""What every search of one launch shares: plans judged once, remedies tried and told, and the lattices between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import field
from functools import cached_property

from preflight.devices.step_time import StepTime, estimate_step_time
from preflight.judge import Judged, checked_item, judge_plan
from preflight.launch import LaunchPlan
from preflight.plugin_manager import PluginManager
from preflight.policy import Policy
from preflight.readings import MayBe, versions_at_the_ends
from preflight.remedy import Remedy
from preflight.report import TriedRemedy
from preflight.rewrite import Rewrite
from preflight.search.best_plans import Solution
from preflight.search.lattice import Edits, Lattice, Reached
from preflight.values import dataclass, replace
from preflight.verdict import Answer

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
    def written_time(self) -> StepTime:
        """The step time of the launch as written, which that of every remedy is over."""
        return _step_time(self.written)

    @cached_property
    def ends(self) -> MayBe:
        """The versions of the readings at the ends of the launch as written."""
        return versions_at_the_ends(self.written.readings)

    def in_full(self, judged: Judged) -> Judged:
        """Judge a plan under all the versions that it may have, unless it does not fit in those at the ends."""
        if not self.ends or judged.verdict.answer is Answer.DOES_NOT_FIT:
            return judged
        if id(judged) not in self.whole:
            written, asked = self.written, (self.plugins, self.policy)
            whole = judge_plan(judged.plan, *asked, written.model, written.device)
            self.whole[id(judged)], self.whole[id(whole)] = (judged, whole), (whole, whole)
        return self.whole[id(judged)][1]

    def has_one_of(self, answers: tuple[Answer, ...]) -> Callable[[Judged], bool]:
        """Return what tells whether a plan is given one of these answers under all the versions that it may have."""
        return lambda judged: (
            judged.verdict.answer in answers and self.in_full(judged).verdict.answer in answers
        )

    def written_as(self, judged: Judged, is_answer: Callable[[Judged], bool]) -> Rewrite | None:
        """Return the launch that says an answer; None where none does, or where a release reads one that is none."""
        rewrite = self.write(self.written.plan, judged.plan, self.plugins)
        plan = None if rewrite is None else rewrite.plan
        if plan is None or plan.version_readings == judged.plan.version_readings:
            return rewrite
        return rewrite if is_answer(self.judged(plan)) else None

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
        """Return a remedy with what its plan is given under all the versions that it may have."""
        judged = self.in_full(judged)
        estimate, readings = judged.estimate, judged.readings
        if readings and judged.verdict.answer is Answer.TIGHT:
            fits = readings.likely.verdict.answer is Answer.FITS
            estimate = readings.most.estimate if fits else estimate
        assert estimate is not None
        time = _step_time(judged)
        return TriedRemedy(
            remedy,
            judged.plan,
            estimate,
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


def told_by_hand(tried: TriedRemedy, edits: tuple[str, ...]) -> TriedRemedy:
    """Return a remedy that tells the edits a person makes for it, and for those beside it."""
    if not edits:
        return tried
    extra = {**tried.remedy.extra, "edits": edits}
    return replace(tried, remedy=replace(tried.remedy, how="; ".join(edits), extra=extra))


def without(wanted: Wanted, removed: frozenset[str]) -> Wanted:
    """Return what tells a remedy that is wanted and not among some levers."""
    return lambda remedy: remedy.id not in removed and wanted(remedy)


def culprits(search: Search, lattice: Lattice, best: Solution) -> frozenset[str]:
    """Return the levers of a path that cannot be written beside those before them; all of them where each can.

    What one of them needs stands before it: states go to the host of an engine that shards them.
    """
    blamed = set()
    plan = lattice.start.plan
    for remedy in best.reached.path:
        further = plan.with_edits(remedy.edits)
        if search.write(search.written.plan, further, search.plugins) is None:
            blamed.add(remedy.id)
        else:
            plan = further
    return frozenset(blamed or best.ids)


def _step_time(judged: Judged) -> StepTime:
    assert judged.model is not None
    return estimate_step_time(judged.plan, judged.model, judged.device)
