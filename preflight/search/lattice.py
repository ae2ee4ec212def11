"""The best plan among all that a set of levers reaches, by branch and bound: exact, and a few dozen estimates.

A lever is one remedy id with its doses, from mild to harsh. A plan of the lattice has one dose of each, or
none. Levers are decided one after the other; of what is left undecided two things are known:

    - no dose at all makes the fastest plan (beside levers that save time), and has the fewest edits
    - every lever in its harshest dose makes the smallest plan, or in the dose before one that may raise the
      peak; where none of those fits, nothing does

Better means: a faster step, to 5 percent, and never faster than as written (a launch is changed to fit, not
to be tuned); then fewer edits; then fewer that are not bit-identical; then the exact step time; then the order of
the built-ins.
Tests compare the answer with trying every plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from preflight.devices.step_time import StepTime, estimate_step_time
from preflight.errors import HookFailed
from preflight.judge import Judged
from preflight.launch import LaunchPlan
from preflight.memory import Level
from preflight.plugins import PluginManager
from preflight.remedy import Remedy
from preflight.values import dataclass

MAX_ESTIMATES = 600
"""Plans estimated at most in one search; the built-in levers need 3 to 130 on the launches that were tried."""
FREE_FACTOR = 1.005
"""A lever that costs less than this is tried before one that costs step time."""

AS_WRITTEN = 20
"""Steps of 5 percent that the step time of the launch as written has. Finer differences are not told apart: on
published pairs of training speeds the factor is off by 2 percent in the median (tests/test_throughput.py)."""

Doses = tuple[int, ...]
Edits = tuple[tuple[str, Any], ...]
Built = tuple[LaunchPlan, tuple[Remedy, ...]]
Key = tuple[int, int, int, float, Doses]


@dataclass(frozen=True)
class Lever:
    """One remedy id, and how many doses of it there are."""

    id: str
    owner: str
    """The plugin that offers it."""
    num_doses: int


@dataclass(frozen=True)
class Reached:
    """One plan of the lattice."""

    plan: LaunchPlan
    path: tuple[Remedy, ...]
    factor: float
    """Step time over that of the plan as written."""
    time: StepTime


@dataclass(frozen=True)
class Solution:
    """A plan that answers the search, with what it is estimated at."""

    reached: Reached
    judged: Judged
    key: Key

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(remedy.id for remedy in self.reached.path)


class Lattice:
    """All plans that levers make of one; each is built, timed and estimated once."""

    def __init__(
        self,
        start: Judged,
        plugins: PluginManager,
        judge: Callable[[LaunchPlan], Judged],
        wanted: Callable[[Remedy], bool],
        written: StepTime,
        known: dict[Edits, Judged] | None = None,
        peaks: dict[str, int] | None = None,
    ) -> None:
        """`wanted` says which remedies may be used; `written` is the step time that factors are over;
        `known` holds what was judged of the same start, and what will be; `peaks` the peak with one free lever
        alone, of any start: levers are decided in that order, which no answer depends on."""
        self.start, self.plugins, self.judge = start, plugins, judge
        self.wanted, self.written = wanted, written
        self.num_estimates = 0
        self.refused: dict[str, Remedy] = {}
        """One remedy of each id and safety that was offered somewhere and may not be used here."""
        self._built: dict[Doses, Built | None] = {}
        self._reached: dict[Doses, Reached | None] = {}
        self._doses_after: dict[Doses, list[Remedy]] = {}
        self._judged: dict[Edits, Judged] = {} if known is None else known
        self.peaks: dict[str, int] = {} if peaks is None else peaks
        self.levers = self._discover()

    def _discover(self) -> tuple[Lever, ...]:
        """Return the levers in the order of the plugins, those among them that only another one makes possible."""
        found: dict[str, Lever] = {}
        order = {name: place for place, name in enumerate(self.plugins.names)}
        plan = self.start.plan
        while True:
            offered = self._offered(plan)
            doses: dict[str, int] = {}
            for owner, remedy in offered:
                doses[remedy.id] = doses.get(remedy.id, 0) + 1
                known = found.get(remedy.id)
                most = max(doses[remedy.id], 0 if known is None else known.num_doses)
                found[remedy.id] = Lever(remedy.id, owner, most)
            levers = tuple(sorted(found.values(), key=lambda lever: order[lever.owner]))
            harsher = plan
            for lever in levers:
                last = self._doses(lever, harsher)[-1:]
                harsher = harsher.with_edits(last[0].edits) if last else harsher
            if not offered or harsher == plan:
                return levers
            plan = harsher

    def _offered(self, plan: LaunchPlan) -> list[tuple[str, Remedy]]:
        items = self.plugins.collect("preflight_remedies", plan=plan, model=self.start.model)
        return [
            (owner, item)
            for owner, item in items
            if self._takes(checked_remedy(item, owner)) and plan.is_changed_by(item.edits)
        ]

    def _takes(self, remedy: Remedy) -> bool:
        takes = self.wanted(remedy)
        if not takes:
            self.refused[f"{remedy.id}, {remedy.safety}"] = remedy
        return takes

    def _doses(self, lever: Lever, plan: LaunchPlan) -> list[Remedy]:
        items = self.plugins.collect_from(
            lever.owner, "preflight_remedies", plan=plan, model=self.start.model
        )
        remedies = [checked_remedy(item, lever.owner) for item in items]
        return [r for r in remedies if r.id == lever.id and self._takes(r)]

    def reach(self, doses: Doses) -> Reached | None:
        """Return the plan with these doses (0 is none); None where one is not offered beside the others."""
        if doses not in self._reached:
            built = self._build(doses)
            self._reached[doses] = None if built is None else self._timed(*built)
        return self._reached[doses]

    def _build(self, doses: Doses) -> Built | None:
        if doses not in self._built:
            self._built[doses] = self._edited(doses)
        return self._built[doses]

    def _edited(self, doses: Doses) -> Built | None:
        last = max((place for place, dose in enumerate(doses) if dose), default=-1)
        if last < 0:
            return self.start.plan, ()
        before = self._build(self._padded(doses[:last]))
        if before is None:
            return None
        offered = self.offered_after(doses[:last])
        if len(offered) < doses[last]:
            return None
        remedy = offered[doses[last] - 1]
        plan, path = before
        return plan.with_edits(remedy.edits), (*path, remedy)

    def _padded(self, doses: Doses) -> Doses:
        return (*doses, *([0] * (len(self.levers) - len(doses))))

    def offered_after(self, doses: Doses) -> list[Remedy]:
        """Return the doses of the next lever beside those that were decided before it."""
        if doses not in self._doses_after:
            before = self._build(self._padded(doses))
            lever = self.levers[len(doses)]
            self._doses_after[doses] = [] if before is None else self._doses(lever, before[0])
        return self._doses_after[doses]

    def _timed(self, plan: LaunchPlan, path: tuple[Remedy, ...]) -> Reached:
        assert self.start.model is not None
        time = estimate_step_time(plan, self.start.model, self.start.device)
        factor = time.factor_of(self.written)
        for remedy in path:
            factor *= remedy.step_time_factor
        return Reached(plan, path, factor, time)

    def harshest(self, decided: Mapping[int, int]) -> Doses:
        """Return doses with every undecided lever as far as it goes beside the others."""
        return next(self.smallest(decided), self.mildest(decided))

    def smallest(self, decided: Mapping[int, int], doses: Doses = ()) -> Iterator[Doses]:
        """Yield the doses among which the smallest plan is: the harshest, and those before one that may raise the peak."""
        place = len(doses)
        if place == len(self.levers):
            yield doses
            return
        offered = self.offered_after(doses) if decided.get(place) != 0 else []
        if place in decided:
            if decided[place] <= len(offered):
                yield from self.smallest(decided, (*doses, decided[place]))
            return
        most = len(offered)
        first = [most, *(dose for dose, remedy in enumerate(offered) if self._may_raise(remedy))]
        yield from self._any_of(decided, doses, first)
        # Where a later dose that was decided is not offered beside any of these, a milder one may allow it.
        if next(self._any_of(decided, doses, first), None) is None:
            milder = [dose for dose in range(most - 1, -1, -1) if dose not in first]
            yield from self._any_of(decided, doses, milder)

    def _may_raise(self, remedy: Remedy) -> bool:
        if remedy.may_raise_peak or self.start.plan.host_memory_gib is None:
            return remedy.may_raise_peak
        return remedy.needs_host or remedy.may_raise_host

    def _any_of(self, decided: Mapping[int, int], doses: Doses, last: list[int]) -> Iterator[Doses]:
        for dose in last:
            yield from self.smallest(decided, (*doses, dose))

    def mildest(self, decided: Mapping[int, int]) -> Doses:
        """Return doses with no undecided lever."""
        return tuple(decided.get(place, 0) for place in range(len(self.levers)))

    def estimate(self, reached: Reached) -> Judged:
        """Return what a plan is estimated and judged at."""
        edits: dict[str, Any] = {}
        for remedy in reached.path:
            edits.update(remedy.edits)
        key = tuple(sorted(edits.items(), key=_name))
        if key not in self._judged:
            self.num_estimates += 1
            self._judged[key] = self.judge(reached.plan)
        return self._judged[key]


def _name(item: tuple[str, Any]) -> str:
    return item[0]


def key_of(doses: Doses, reached: Reached) -> Key:
    """Return what plans are compared by; smaller is better."""
    return (
        steps_of(reached.factor),
        len(reached.path),
        num_not_same(reached.path),
        round(reached.factor, 6),
        doses,
    )


def steps_of(factor: float) -> int:
    """Return a step time in steps of 5 percent; never less than as written."""
    return max(AS_WRITTEN, round(factor * AS_WRITTEN))


def num_not_same(path: tuple[Remedy, ...]) -> int:
    """Return how many changes of a plan round elsewhere or more."""
    return sum(remedy.safety != "same" for remedy in path)


def best_plans(
    lattice: Lattice, is_answer: Callable[[Judged], bool], most: int = 1
) -> list[Solution]:
    """Return the best plans that answer, best first; none where no plan of the lattice does.

    `is_answer` must hold for every plan smaller than one for which it holds.
    """
    search = _Search(lattice, is_answer, most)
    if search.has_answer():
        search.visit({}, search.order())
    return search.found


def hardened(lattice: Lattice, solution: Solution) -> Solution:
    """Return a plan that may still die with every lever added that lowers its peak at no cost in step time."""
    for place, lever in enumerate(lattice.levers):
        doses = solution.key[-1]
        if doses[place]:
            continue
        for dose in range(lever.num_doses, 0, -1):
            more = tuple(dose if p == place else d for p, d in enumerate(doses))
            reached = lattice.reach(more)
            if reached is None or reached.factor > solution.reached.factor * FREE_FACTOR:
                continue
            judged = lattice.estimate(reached)
            if judged.verdict.failing_level is Level.HOST:
                continue
            before, after = solution.judged.estimate, judged.estimate
            assert before is not None and after is not None
            if after.device_peak_bytes < before.device_peak_bytes:
                solution = Solution(reached, judged, key_of(more, reached))
                break
    return solution


class _Search:
    def __init__(self, lattice: Lattice, is_answer: Callable[[Judged], bool], most: int) -> None:
        self.lattice, self.is_answer, self.most = lattice, is_answer, most
        self.found: list[Solution] = []
        self.faster: tuple[int, ...] = ()
        """Places of levers that save step time."""

    def has_answer(self) -> bool:
        """Tell whether any plan answers: the one as it is, or the smallest."""
        lattice = self.lattice
        lattice.num_estimates = 0
        base = lattice.reach(lattice.mildest({}))
        assert base is not None
        return self.is_answer(lattice.estimate(base)) or self._can_answer({})

    def order(self) -> tuple[int, ...]:
        """Return the places of all levers: those that cost most time first, of free ones what saves most."""
        lattice = self.lattice
        base = lattice.reach(lattice.mildest({}))
        assert base is not None
        cost: dict[int, float] = {}
        peak: dict[int, int] = {}
        dependent: set[int] = (
            set()
        )  # decided last: before what they need, every dose would be looked into
        all_on = lattice.harshest({})
        for place in range(len(lattice.levers)):
            alone = lattice.reach(lattice.mildest({place: all_on[place]}))
            rest = lattice.reach(tuple(0 if p == place else d for p, d in enumerate(all_on)))
            on = lattice.reach(all_on)
            factors = [1.0]
            if alone is not None:
                factors.append(alone.factor / base.factor)
            if rest is not None and on is not None:
                factors.append(on.factor / rest.factor)
            if alone is None:
                dependent.add(place)
            cost[place] = max(factors)
            if min(factors) < 1.0:
                self.faster = (*self.faster, place)
            peak[place] = 0
            if cost[place] < FREE_FACTOR and alone is not None:
                id = lattice.levers[place].id
                if id not in lattice.peaks:
                    estimate = lattice.estimate(alone).estimate
                    lattice.peaks[id] = 0 if estimate is None else estimate.device_peak_bytes
                peak[place] = lattice.peaks[id]
        return tuple(
            sorted(
                cost,
                key=lambda p: (
                    p in dependent,
                    -cost[p] if cost[p] >= FREE_FACTOR else 0.0,
                    peak[p],
                    p,
                ),
            )
        )

    def visit(self, decided: dict[int, int], undecided: tuple[int, ...]) -> None:
        """Look for better plans with what was decided."""
        lattice = self.lattice
        if lattice.num_estimates > MAX_ESTIMATES:
            return
        mildest = lattice.mildest(decided)
        reached = lattice.reach(mildest)
        if reached is None and not undecided:
            return
        answers = reached is not None and self.is_answer(lattice.estimate(reached))
        if not self._may_be_better(decided, undecided, reached, answers):
            return
        if answers and reached is not None:
            self._take(mildest, reached)
            if not undecided or not self._could_be_faster(reached, undecided):
                return
        elif not undecided or not self._can_answer(decided):
            return
        place, rest = undecided[0], undecided[1:]
        all_doses = range(lattice.levers[place].num_doses + 1)
        for dose in all_doses:
            self.visit({**decided, place: dose}, rest)

    def _may_be_better(
        self,
        decided: dict[int, int],
        undecided: tuple[int, ...],
        reached: Reached | None,
        answers: bool,
    ) -> bool:
        """Tell whether a plan below could be better than the worst one that is kept."""
        if len(self.found) < self.most or reached is None:
            return True
        quick = {**decided, **{p: 1 for p in self.faster if p in undecided}}
        fastest = self.lattice.reach(self.lattice.mildest(quick))
        factor = reached.factor if fastest is None else min(reached.factor, fastest.factor)
        changes = len(reached.path) + (not answers)
        doses = self.lattice.mildest(decided)
        bound = (
            steps_of(factor),
            changes,
            num_not_same(reached.path),
            round(factor, 6),
            doses,
        )
        return bound < self.found[-1].key

    def _could_be_faster(self, reached: Reached, undecided: tuple[int, ...]) -> bool:
        return steps_of(reached.factor) > AS_WRITTEN and any(p in self.faster for p in undecided)

    def _can_answer(self, decided: dict[int, int]) -> bool:
        """Tell whether the smallest plan below answers."""
        for doses in self.lattice.smallest(decided):
            reached = self.lattice.reach(doses)
            if reached is not None and self.is_answer(self.lattice.estimate(reached)):
                return True
        return False

    def _take(self, doses: Doses, reached: Reached) -> None:
        """Keep a plan, unless it is one that is kept with changes that it does not need."""
        new = Solution(reached, self.lattice.estimate(reached), key_of(doses, reached))
        if any(_is_padded(new, kept) for kept in self.found):
            return
        self.found = [kept for kept in self.found if not _is_padded(kept, new)]
        self.found.append(new)
        self.found.sort(key=lambda solution: solution.key)
        del self.found[self.most :]


def _is_padded(one: Solution, other: Solution) -> bool:
    """Tell whether a plan makes every change that another makes, and is no better for the rest."""
    pairs = zip(one.key[-1], other.key[-1], strict=True)
    return one.key >= other.key and all(mine == theirs for mine, theirs in pairs if theirs)


def every_plan(lattice: Lattice) -> Iterator[tuple[Doses, Reached]]:
    """Yield every plan of a lattice: what the search is compared with in tests."""
    places: list[Doses] = [()]
    for lever in lattice.levers:
        places = [(*doses, dose) for doses in places for dose in range(lever.num_doses + 1)]
    for doses in places:
        reached = lattice.reach(doses)
        if reached is not None:
            yield doses, reached


def checked_remedy(item: object, owner: str) -> Remedy:
    """Return what a plugin yielded; raise HookFailed where it is no Remedy."""
    if not isinstance(item, Remedy):
        raise HookFailed(owner, "preflight_remedies", f"yielded {item!r}, which is not a Remedy")
    return item
