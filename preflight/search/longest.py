"""The longest sequence with which a launch fits, where its length is only what rows are cut at, or where nobody said it."""

from __future__ import annotations

from collections.abc import Callable

from preflight.formulas.left_out import LENGTH_OF_IMAGES, is_cut_only
from preflight.judge import Judged, judge_plan
from preflight.plugins import PluginManager
from preflight.policy import Policy
from preflight.readings import MayBe, Readings
from preflight.verdict import Answer

STEP = 64
"""Tokens: a length is found to this multiple."""
MOST_SEARCHES = 3
"""Times that a length is looked for: what takes most at one length may not be what does at another."""
MOST = 2**17
"""Tokens that are looked at where nothing bounds a row and the model's own config names no positions."""


def longest_that_fits(start: Judged, plugins: PluginManager, policy: Policy) -> int | None:
    """Return the most tokens of a row, to a multiple of STEP, with which a launch is not refused, or surely fits.

    Asked of a refusal whose length is only a cap, of a length that nobody said and that the answer waits for, and of a
    cap that rows with images may never reach; None where no length helps. More tokens never take fewer bytes, so the lengths are halved: a dozen estimates for a length
    of 200,000.
    """
    plan, most = start.plan, most_looked_at(start)
    if most is None:
        return None
    is_open = start.verdict.answer is Answer.UNKNOWN

    def judged(length: int, among: MayBe | None = None) -> Judged:
        asked = plan.with_edits({"seq_len": length})
        return judge_plan(asked, plugins, policy, start.model, start.device, among)

    def fits(found: Judged) -> bool:
        answer = found.verdict.answer
        return answer is Answer.FITS if is_open else answer is not Answer.DOES_NOT_FIT

    def all_fit(length: int, looked_at: list[MayBe]) -> bool:
        # Where only a refusal is to go, one that goes is enough; of an open length every reading has to fit.
        found = (fits(judged(length, among)) for among in looked_at or [{}])
        return all(found) if is_open else any(found)

    def longest_of(looked_at: list[MayBe]) -> int | None:
        if is_open and all_fit(most, looked_at):
            return most
        return _last(lambda length: all_fit(length, looked_at), most)

    def worse(length: int, values: MayBe) -> MayBe | None:
        """Return values of which one is another and with which a length does not fit: all of them are many readings."""
        for name, others in start.readings.may_be.items() if start.readings and is_open else ():
            for other in others if name in values else ():
                among = {**values, name: (other,)}
                if not fits(judged(length, among)):
                    return among
        return None

    shortest = judged(STEP)
    if not fits(shortest):
        return None
    looked_at = [] if start.readings is None else [_deciding(shortest.readings, is_open)]
    for _ in range(MOST_SEARCHES):
        longest = longest_of(looked_at)
        if longest is None or not looked_at:
            return longest
        harder = worse(longest, looked_at[-1])
        if harder is not None:
            looked_at.append(harder)
            continue
        whole = judged(longest)
        if fits(whole):
            return longest
        # Other values take more at this length than those that took most at another.
        looked_at.append(_deciding(whole.readings, is_open))
    return None


def _deciding(readings: Readings | None, is_open: bool) -> MayBe:
    """Return the values of the open fields at the end on which an answer rests: the most, or the least of a refusal."""
    if readings is None:
        return {}
    values = (readings.most if is_open else readings.least).values
    return {name: (value,) for name, value in values.items()}


def most_looked_at(start: Judged) -> int | None:
    """Return the longest row that is asked for; None where the answer does not wait for a length."""
    plan, verdict = start.plan, start.verdict
    if plan.seq_len is not None:
        waits = verdict.unpriced == (LENGTH_OF_IMAGES,) and not verdict.missing
        is_asked = verdict.answer is Answer.DOES_NOT_FIT or (
            verdict.answer is Answer.UNKNOWN and waits
        )
        return plan.seq_len if is_asked and is_cut_only(plan) else None
    waits = verdict.missing == ("seq_len",) and not verdict.unpriced
    if verdict.answer is not Answer.UNKNOWN or not waits or plan.generation is not None:
        return None  # of a rollout prompts and completions have a length each
    if start.readings is not None and "seq_len" in start.readings.ranges:
        most: int = start.readings.may_be["seq_len"][-1]
        return most
    positions = start.model.config.get("max_position_embeddings") if start.model else None
    return positions if isinstance(positions, int) else MOST


def _last(fits: Callable[[int], bool], most: int) -> int | None:
    """Return the largest multiple of STEP below `most` that fits, the first of which does; None where there is none."""
    low, high = 1, most // STEP
    if high < 2:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle * STEP) else (low, middle)
    return low * STEP
