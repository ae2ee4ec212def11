"""The most that an evaluation takes whose rows a callback has cut later than those of training."""

from __future__ import annotations

from preflight.launch import LaunchPlan
from preflight.launch_facts import EVALUATED
from preflight.memory import MemoryTerm, Moment, at_most
from preflight.model import ModelSpec
from preflight.units import ceil_div
from preflight.values import replace

LOGIT_BYTES = 4
"""Of the logits that a callback's loop keeps by their name while the next batch runs: fp32 at the widest."""


def evaluated_at_most(
    plan: LaunchPlan, model: ModelSpec
) -> tuple[LaunchPlan, list[MemoryTerm]] | None:
    """Return the plan of a step on rows as long as those that are evaluated, of no fewer tokens than the training's, and what
    the callback keeps beside it; None where nobody said how long they are."""
    length = plan.trainer_facts.value(EVALUATED)
    if not isinstance(length, int) or plan.seq_len is None or model.has_both_stacks:
        return None
    entries = (plan.eval_micro_batch_size or 1) * length * model.vocab_size
    kept = at_most(
        "logits of the batch before",
        LOGIT_BYTES * entries,
        {Moment.EVALUATION},
        f"{entries:,} x {LOGIT_BYTES} (fp32)",
        __name__,
    )
    longest = max(plan.seq_len, length)
    rows = plan.micro_batch_size and ceil_div(plan.micro_batch_size * plan.seq_len, longest)
    return replace(plan, seq_len=longest, micro_batch_size=rows), [kept]
