"""What a launch that fits leaves: bytes of the card, and the largest micro batch and the longest rows that fit too.

Each is looked for alone, the rest of the plan as it is. A peak is nearly a line over either, so the next place to ask
is where the line through two of them crosses the limit: few estimates of the reading that takes most, and one
under all readings of the place that is said. A number that was not judged under all of them is not said.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from preflight.errors import BadInput
from preflight.formulas.row_limits import longest_row
from preflight.judge import Judged, judge_plan
from preflight.plugins import PluginManager
from preflight.policy import Policy
from preflight.readings import MayBe
from preflight.search.longest import MOST, STEP
from preflight.values import dataclass
from preflight.verdict import Answer

MOST_ROWS = 1024
"""Rows of a micro batch that are looked at."""
CLOSE = 64
"""Part of a number by which it may be less than the largest: who asks wants to know whether twice as many fit."""
MOST_ASKED = 24
"""Places that are asked at most for one number; what fits until then is said."""
MOST_SEARCHES = 3
"""Times that a number is looked for: what takes most at one place may not be what does at another."""

Ask = Callable[[int, MayBe], Judged | None]
"""Judge a plan at a number of steps, of readings with these values alone; None where that plan cannot be."""


@dataclass(frozen=True)
class Room:
    """What a launch that fits leaves on the fullest rank, under every reading."""

    headroom_bytes: int
    """Capacity of the device less the peak that the driver would report."""
    micro_batch_size: int | None = None
    """The most rows of a micro batch with which it fits; None where that was not looked for."""
    seq_len: int | None = None
    """The most tokens of a row, a multiple of STEP unless it is the launch's own; None where that was not looked for."""

    def to_dict(self) -> dict[str, Any]:
        """Return the room as the `room` of the JSON contract."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def room_of(start: Judged, plugins: PluginManager, policy: Policy) -> Room | None:
    """Return what a launch that fits leaves; None where its answer is another.

    Of rollouts prompts and completions have a length each, and groups have a size: the headroom alone is said.
    """
    plan, device, estimate = start.plan, start.device, start.estimate
    if start.verdict.answer is not Answer.FITS or device is None or estimate is None:
        return None
    headroom = device.capacity_bytes - _peak(start)
    micro, seq_len = plan.micro_batch_size, plan.seq_len
    if plan.generation is not None or micro is None or seq_len is None:
        return Room(headroom)

    def largest(field: str, step: int, most: int) -> int | None:
        return largest_that_fits(start, field, step, most, plugins, policy)

    return Room(
        headroom,
        largest("micro_batch_size", 1, MOST_ROWS),
        largest("seq_len", STEP, longest_of(start)),
    )


def longest_of(start: Judged) -> int:
    """Return the longest rows that are looked at: what the model takes, else what its config was made for."""
    if start.model is None:
        return MOST
    positions = start.model.config.get("max_position_embeddings")
    most = positions if isinstance(positions, int) else MOST
    return longest_row(start.plan, start.model) or most


def largest_that_fits(
    start: Judged, field: str, step: int, most: int, plugins: PluginManager, policy: Policy
) -> int | None:
    """Return the largest value of a field, a multiple of a step, with which a launch that fits still does, or nearly it.

    None where that is not found in a bounded time: readings that take turns as the one that takes most.
    """
    own: int = getattr(start.plan, field)
    if own >= most:
        return own

    def ask(steps: int, among: MayBe) -> Judged | None:
        try:
            plan = start.plan.with_edits({field: steps * step})
        except BadInput:
            return None
        return judge_plan(plan, plugins, policy, start.model, start.device, among)

    assert start.device is not None
    limit = start.device.capacity_bytes * (1 - policy.margin_of(start.plan.engine))
    end = most // step
    among = dearest(start)
    for _ in range(MOST_SEARCHES):
        found = _last_that_fits(start, own // step, end, ask, among, limit)
        whole = ask(found, {}) if among and found * step > own else None
        if whole is None or whole.verdict.answer is Answer.FITS:
            return max(own, found * step)
        among, end = dearest(whole), found - 1
    return None


def _last_that_fits(
    start: Judged, first: int, last: int, ask: Ask, among: MayBe, limit: float
) -> int:
    """Return a number of steps that fits, of which CLOSE more do not, from one that does to the last that is looked at.

    The next place is where the line through two known ones meets the limit, and later the middle now and then: no curve
    is slow. The limit is aimed at, and judges nothing.
    """
    low, high = first, last + 1
    places = [(first, _peak(start))]
    place = min(low * max(2, int(limit // max(1, _peak(start)))), last)
    for turn in range(MOST_ASKED):
        there = ask(place, among)
        places = [*(p for p in places if p[0] in (low, high)), (place, _peak(there))]
        low, high = (place, high) if _fits(there) else (low, place)
        close = max(1, low // CLOSE)
        if high - low <= close or low == last:
            break
        aimed = (low + high) // 2 if turn % 3 == 2 and turn > 3 else _meets(limit, places)
        place = min(aimed if aimed > low + close else low + close, high - 1)
    return low


def _meets(limit: float, places: list[tuple[int, int]]) -> int:
    """Return the last step before the line through the last two places reaches a limit; 0 where it never does."""
    (x0, y0), (x1, y1) = places[-2:]
    return int(x1 + (limit - y1) * (x1 - x0) / (y1 - y0)) if y1 != y0 and x1 != x0 else 0


def _fits(judged: Judged | None) -> bool:
    return judged is not None and judged.verdict.answer is Answer.FITS


def _peak(judged: Judged | None) -> int:
    """Return what a plan takes at most, 0 where it cannot be."""
    if judged is None or judged.estimate is None:
        return 0
    if judged.readings is not None:
        return judged.readings.most.peak_bytes
    return judged.estimate.device_peak_bytes


def dearest(judged: Judged) -> MayBe:
    """Return the values of the open fields with which a plan takes most."""
    values = {} if judged.readings is None else judged.readings.most.values
    return {name: (value,) for name, value in values.items()}
