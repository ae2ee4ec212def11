"""The largest value of a field with which a plan is still answered as asked: a length of rows, a micro batch.

A peak is nearly a line over either, so the next place to ask is where the line through two of them meets the limit: few
estimates of the reading on which the answer rests, and one under all readings of the place that is said. A number that
was not judged under all of them is not said.
"""

from __future__ import annotations

from collections.abc import Callable

from preflight.device import DeviceSpec
from preflight.errors import BadInput
from preflight.judge import Judged, judge_plan
from preflight.plugin_manager import PluginManager
from preflight.policy import Policy
from preflight.readings import Completion, MayBe
from preflight.values import dataclass
from preflight.verdict import Answer

STEP = 64
"""Tokens: a length is found to this multiple."""
MOST_TOKENS = 2**17
"""Tokens that are looked at where nothing bounds a row and the model's own config names no positions."""
MOST_ASKED = 24
"""Places that are asked at most for one number; what fits until then is said."""
MOST_SEARCHES = 3
"""Times that a number is looked for: what takes most at one place may not be what does at another."""

Ask = Callable[[int, MayBe], Judged | None]
"""Judge a plan at a value, of readings with these values alone; None where that plan cannot be."""


@dataclass(frozen=True)
class Aim:
    """The answer that a plan has to have at a value, and how close to the largest one that value has to be."""

    surely: bool
    """Whether every reading has to fit; else one that is not refused is enough."""
    part: int | None = None
    """Part of a number by which it may be less than the largest; None for the largest itself."""

    def is_met(self, judged: Judged | None) -> bool:
        """Tell whether a plan has the answer that is aimed at; one that cannot be has none."""
        if judged is None:
            return False
        answer = judged.verdict.answer
        return answer is Answer.FITS if self.surely else answer is not Answer.DOES_NOT_FIT

    def close(self, number: int) -> int:
        """Return the steps by which a number may be less than the largest."""
        return 1 if self.part is None else max(1, number // self.part)

    def peak(self, judged: Judged | None) -> int:
        """Return the bytes on which the answer rests: the most that a plan takes, or the least; 0 where it cannot be."""
        if judged is None or judged.estimate is None:
            return 0
        end = self._end(judged)
        if end is None:
            estimate = judged.estimate
            return estimate.device_peak_bytes if self.surely else estimate.needed_bytes
        return end.peak_bytes if self.surely else end.least_bytes

    def limit(self, device: DeviceSpec, margin: float) -> float:
        """Return the bytes at which the answer turns: what fits keeps a margin, what is not refused keeps none."""
        return device.capacity_bytes * (1 - margin) if self.surely else device.capacity_bytes

    def deciding(self, judged: Judged) -> MayBe:
        """Return the values of the open fields on which the answer rests."""
        end = self._end(judged)
        return {} if end is None else {name: (value,) for name, value in end.values.items()}

    def _end(self, judged: Judged) -> Completion | None:
        readings = judged.readings
        if readings is None:
            return None
        return readings.most if self.surely else readings.least


SURELY_FITS = Aim(surely=True)
NEARLY_THE_LARGEST = Aim(surely=True, part=64)
"""For who asks whether twice as many fit."""
IS_NOT_REFUSED = Aim(surely=False)


def largest(
    start: Judged,
    field: str,
    step: int,
    most: int,
    aim: Aim,
    plugins: PluginManager,
    policy: Policy,
) -> int | None:
    """Return the largest value of a field, a multiple of a step or `most`, with which a plan has the answer that it has.

    `start` has it at its own value, and more never takes fewer bytes. None where the number is not found in a bounded
    time: readings that take turns as the one that decides.
    """
    own: int = getattr(start.plan, field)
    if own >= most:
        return own

    def ask(value: int, among: MayBe) -> Judged | None:
        try:
            plan = start.plan.with_edits({field: value})
        except BadInput:
            return None
        return judge_plan(plan, plugins, policy, start.model, start.device, among, settles=False)

    assert start.device is not None
    limit = aim.limit(start.device, policy.margin_of(start.plan.engine))
    search = _Search(aim, ask, limit, step, most)
    end = -(-most // step)
    among = aim.deciding(start)
    for _ in range(MOST_SEARCHES):
        found = search.last(own // step, end, aim.peak(start), among)
        value = min(found * step, most)
        whole = ask(value, {}) if among and value > own else None
        if whole is None or aim.is_met(whole):
            return max(own, value)
        among, end = aim.deciding(whole), found - 1
    return None


@dataclass(frozen=True)
class _Search:
    aim: Aim
    ask: Ask
    limit: float
    """Bytes that are aimed at, and judge nothing."""
    step: int
    most: int

    def last(self, first: int, end: int, peak: int, among: MayBe) -> int:
        """Return a number of steps with the answer, close to which others have not: from one that has to the last one.

        The next place is where the line through two known ones meets the limit, and later the middle now and then: no
        curve is slow.
        """
        low, high = first, end + 1
        places = [(first, peak)]
        place = min(low * max(2, int(self.limit // max(1, peak))), end)
        for turn in range(MOST_ASKED):
            there = self.ask(min(place * self.step, self.most), among)
            kept = [one for one in places if one[0] in (low, high)]
            places = [*kept, (place, self.aim.peak(there))]
            low, high = (place, high) if self.aim.is_met(there) else (low, place)
            close = self.aim.close(low)
            if high - low <= close or low == end:
                break
            is_middle = turn % 3 == 2 and turn > 3
            aimed = (low + high) // 2 if is_middle else _meets(self.limit, places)
            place = min(aimed if aimed > low + close else low + close, high - 1)
        return low


def _meets(limit: float, places: list[tuple[int, int]]) -> int:
    """Return the last step before the line through the last two places reaches a limit; 0 where it never does."""
    (x0, y0), (x1, y1) = places[-2:]
    return int(x1 + (limit - y1) * (x1 - x0) / (y1 - y0)) if y1 != y0 and x1 != x0 else 0
