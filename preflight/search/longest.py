"""The longest sequence with which a launch fits, where its length is only what rows are cut at, or where nobody said it."""

from __future__ import annotations

from preflight.formulas.left_out import LENGTH_OF_IMAGES, is_cut_only, makes_rows
from preflight.formulas.row_limits import longest_row
from preflight.judge import Judged, judge_plan
from preflight.plugin_manager import PluginManager
from preflight.policy import Policy
from preflight.search.largest import IS_NOT_REFUSED, MOST_TOKENS, STEP, SURELY_FITS, largest
from preflight.verdict import Answer


def longest_that_fits(start: Judged, plugins: PluginManager, policy: Policy) -> int | None:
    """Return the most tokens of a row, to a multiple of STEP, with which a launch is not refused, or surely fits.

    Asked of a refusal whose length is only a cap, of a length that nobody said and that the answer waits for, and of a
    cap that rows with images may never reach; None where no length helps. Where only a refusal is to go, one reading
    that goes is enough; of an open length, and of rows that a model makes, every reading has to fit.
    """
    most = most_looked_at(start)
    if most is None:
        return None
    is_sure = start.verdict.answer is Answer.UNKNOWN or makes_rows(start.plan)
    aim = SURELY_FITS if is_sure else IS_NOT_REFUSED
    shortest = _shortest(start, plugins, policy)
    if not aim.is_met(shortest):
        return None
    return largest(shortest, "seq_len", STEP, most, aim, plugins, policy)


def is_refused_at_its_longest(start: Judged, plugins: PluginManager, policy: Policy) -> bool:
    """Tell whether a refusal is of rows that a model may end sooner: no data tells whether one is as long."""
    if not makes_rows(start.plan) or most_looked_at(start) is None:
        return False
    return IS_NOT_REFUSED.is_met(_shortest(start, plugins, policy))


def _shortest(start: Judged, plugins: PluginManager, policy: Policy) -> Judged:
    plan = start.plan.with_edits({"seq_len": STEP})
    return judge_plan(plan, plugins, policy, start.model, start.device, settles=False)


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
