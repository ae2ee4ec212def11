"""Every plan that a set of levers makes of one launch, each built, timed and estimated once.

A lever is one remedy id with its doses, from mild to harsh. A plan of the lattice has one dose of each lever, or
none, written as a tuple of doses in the order of the levers: `(0, 2, 1)` is the second dose of the second lever and
the first dose of the third. A dose is asked from its plugin on the plan that the levers before it made, so what a
lever offers depends on those before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from preflight.devices.step_time import StepTime, estimate_step_time
from preflight.judge import Judged, checked_item
from preflight.launch import LaunchPlan
from preflight.plugin_manager import PluginManager
from preflight.remedy import Remedy
from preflight.values import dataclass

Doses = tuple[int, ...]
Edits = tuple[tuple[str, Any], ...]
Built = tuple[LaunchPlan, tuple[Remedy, ...]]


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
        levers_by_id: dict[str, Lever] = {}
        order = {name: place for place, name in enumerate(self.plugins.names)}
        plan = self.start.plan
        # Some remedies are offered only beside others (offloading states needs them to be sharded). So all levers
        # that are known are pulled as far as they go, and the plan that they make is asked for more, until it has none.
        while True:
            offered = self._offered(plan)
            doses: dict[str, int] = {}
            for owner, remedy in offered:
                doses[remedy.id] = doses.get(remedy.id, 0) + 1
                known = levers_by_id.get(remedy.id)
                most = max(doses[remedy.id], 0 if known is None else known.num_doses)
                levers_by_id[remedy.id] = Lever(remedy.id, owner, most)
            levers = tuple(sorted(levers_by_id.values(), key=lambda lever: order[lever.owner]))
            harsher = plan
            for lever in levers:
                last = self._doses(lever, harsher)[-1:]
                harsher = harsher.with_edits(last[0].edits) if last else harsher
            if not offered or harsher == plan:
                return levers
            plan = harsher

    def _offered(self, plan: LaunchPlan) -> list[tuple[str, Remedy]]:
        items = self.plugins.collect(
            "preflight_remedies", plan=plan, model=self.start.model, device=self.start.device
        )
        return [
            (owner, item)
            for owner, item in items
            if self._takes(checked_item(item, Remedy, owner, "preflight_remedies"))
            and plan.is_changed_by(item.edits)
        ]

    def _takes(self, remedy: Remedy) -> bool:
        takes = self.wanted(remedy)
        if not takes:
            self.refused[f"{remedy.id}, {remedy.safety}"] = remedy
        return takes

    def _doses(self, lever: Lever, plan: LaunchPlan) -> list[Remedy]:
        items = self.plugins.collect_from(
            lever.owner,
            "preflight_remedies",
            plan=plan,
            model=self.start.model,
            device=self.start.device,
        )
        remedies = [checked_item(item, Remedy, lever.owner, "preflight_remedies") for item in items]
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
        # The harshest dose makes the smallest plan, with one exception that a remedy declares: where a dose may raise
        # the peak (of the device, or of a host whose size is known), the dose before it may be smaller. Both are tried.
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
