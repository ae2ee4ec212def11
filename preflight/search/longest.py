"""The longest sequence with which a launch fits, where its length is only what rows are cut at."""

from __future__ import annotations

from dataclasses import replace

from preflight.judge import Judged, judge_plan
from preflight.plugins import PluginManager
from preflight.policy import Policy
from preflight.readings import versions_at_the_ends
from preflight.verdict import Answer

STEP = 64
"""Tokens: a length is found to this multiple."""


def longest_that_fits(start: Judged, plugins: PluginManager, policy: Policy) -> int | None:
    """Return the most tokens of a row, to a multiple of STEP, with which a refused plan is not refused; None for none.

    More tokens never take fewer bytes, so the lengths are halved: a dozen estimates for a length of 200,000.
    """

    ends = versions_at_the_ends(start.readings)

    def fits(length: int) -> bool:
        plan = replace(start.plan, seq_len=length)
        judged = judge_plan(plan, plugins, policy, start.model, start.device, ends)
        return judged.verdict.answer is not Answer.DOES_NOT_FIT

    low, high = 0, (start.plan.seq_len or 0) // STEP
    if high < 2 or not fits(STEP):
        return None
    low = 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle * STEP) else (low, middle)
    return low * STEP
