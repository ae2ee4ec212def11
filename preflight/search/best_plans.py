"""The best plans of a lattice, by branch and bound: exact, for a few dozen estimates in place of thousands.

Levers are decided one after the other. Of all plans that leave the rest undecided two are known:

    - no further dose at all makes the fastest (but for levers that save time), and the one with the fewest edits
    - every further lever as far as it goes makes the smallest (`Lattice.smallest`); where that does not fit, none does

A branch is left when its smallest plan does not answer, or when its fastest cannot beat what is kept.
Better means: a faster step, to 5 percent, and never faster than as written (a launch is changed to fit, not to be
tuned); then fewer edits; then fewer that are not bit-identical; then the exact step time; then the order of the
built-ins. Tests compare the answer with trying every plan.
"""

from __future__ import annotations

from collections.abc import Callable

from preflight.judge import Judged
from preflight.remedy import Remedy
from preflight.search.lattice import Doses, Lattice, Reached
from preflight.values import dataclass

MAX_ESTIMATES = 600
"""Plans estimated at most in one search; the built-in levers need 3 to 130 on the launches that were tried."""


FREE_FACTOR = 1.005
"""A lever that costs less than this is tried before one that costs step time."""


AS_WRITTEN = 20
"""Steps of 5 percent that the step time of the launch as written has. Finer differences are not told apart: on
published pairs of training speeds the factor is off by 2 percent in the median (tests/devices/test_throughput.py)."""


Key = tuple[int, int, int, float, Doses]


@dataclass(frozen=True)
class Solution:
    """A plan that answers the search, with what it is estimated at."""

    reached: Reached
    judged: Judged
    key: Key

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(remedy.id for remedy in self.reached.path)


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


def hardened(lattice: Lattice, solution: Solution, is_answer: Callable[[Judged], bool]) -> Solution:
    """Return a plan that may still die with every lever added that lowers its peak at no cost, and answers too."""
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
            if not is_answer(judged):
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
        # Levers that are offered only beside others come last: before what they need, each dose would be a branch.
        dependent: set[int] = set()
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
        # The mildest plan of this branch: where it answers, everything else below it has more edits, and is of use
        # only if a lever that saves time is still undecided.
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
        # No plan below is faster than this one with every undecided lever that saves time in its first dose, or has
        # fewer edits than the mildest, which needs at least one more where it does not answer itself.
        quick = {**decided, **{p: 1 for p in self.faster if p in undecided}}
        fastest = self.lattice.reach(self.lattice.mildest(quick))
        factor = reached.factor if fastest is None else min(reached.factor, fastest.factor)
        changes = len(reached.path) + (not answers)
        doses = self.lattice.mildest(decided)
        bound = (steps_of(factor), changes, num_not_same(reached.path), round(factor, 6), doses)
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
