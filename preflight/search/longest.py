"""The longest sequence with which a launch fits, where its length is only what rows are cut at, or where nobody said it."""

from __future__ import annotations

from typing import NamedTuple

from preflight.formulas.left_out import LENGTH_OF_IMAGES, is_cut_only, makes_rows
from preflight.formulas.row_limits import longest_row
from preflight.judge import Judged, judge_plan
from preflight.plugin_manager import PluginManager
from preflight.policy import Policy
from preflight.search.largest import IS_NOT_REFUSED, MOST_TOKENS, STEP, SURELY_FITS, largest
from preflight.verdict import Answer


class RowsThatFit(NamedTuple):
    """What the shortest rows tell of a launch whose length is only a cap, or that nobody said."""

    longest: int | None = None
    """The most tokens of a row, to a multiple of STEP, with which it is not refused, or surely fits; None where no length helps."""
    ends_sooner: bool = False
    """Whether it is refused for rows that a model may end sooner: no data tells whether one is as long."""


def rows_that_fit(start: Judged, plugins: PluginManager, policy: Policy) -> RowsThatFit:
    """Return how long rows may be.

    Asked of a refusal whose length is only a cap, of a length that nobody said and that the answer waits for, and of a
    cap that rows with images may never reach. Where only a refusal is to go, one reading that goes is enough; of an open
    length, and of rows that a model makes, every reading has to fit.
    """
    most = most_looked_at(start)
    if most is None:
        return RowsThatFit()
    is_refused, is_made = start.verdict.answer is Answer.DOES_NOT_FIT, makes_rows(start.plan)
    aim = IS_NOT_REFUSED if is_refused and not is_made else SURELY_FITS
    plan = start.plan.with_edits({"seq_len": STEP})
    shortest = judge_plan(plan, plugins, policy, start.model, start.device, settles=False)
    longest = None
    if aim.is_met(shortest):
        longest = largest(shortest, "seq_len", STEP, most, aim, plugins, policy)
    return RowsThatFit(longest, is_refused and is_made and IS_NOT_REFUSED.is_met(shortest))


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
    return _positions(start)


def longest_row_of(start: Judged) -> int:
    """Return the longest row that a launch's model takes, else what its config was made for."""
    taken = None if start.model is None else longest_row(start.plan, start.model)
    return taken or _positions(start)


def _positions(start: Judged) -> int:
    positions = start.model.config.get("max_position_embeddings") if start.model else None
    return positions if isinstance(positions, int) else MOST_TOKENS
