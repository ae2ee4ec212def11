"""The most that a head takes whose outcome a module of the script's own makes fp32, as PEFT's first examples had it.

A model's own loss casts its logits all the same (transformers/loss/loss_utils.py ForCausalLMLoss, 5.24), so that nothing is
added there; another loss, and what an update keeps, have them in fp32 instead of 16 bits, and their gradient likewise.
tests/formulas/test_cast_logits.py holds the count.
"""

from __future__ import annotations

from preflight.formulas.sharding import num_answer_tokens
from preflight.launch import LaunchPlan
from preflight.memory import MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.unpriced_names import CAST_LOGITS
from preflight.values import replace

CAST = {
    Moment.LOSS_FORWARD: 4,
    Moment.LOSS_BACKWARD: 8,
    Moment.HEAD_BACKWARD: 4,
    Moment.EVALUATION: 4,
}
"""Bytes of an entry of the logits: a copy of them, and one of their gradient before it is narrow again."""


def cast_at_most(plan: LaunchPlan, model: ModelSpec) -> list[MemoryTerm]:
    """Return the terms of CAST_LOGITS; none, so that they stay named, where the length of rows is not known."""
    return [*filter(None, (_at(moment, each, plan, model) for moment, each in CAST.items()))]


def _at(moment: Moment, each: int, plan: LaunchPlan, model: ModelSpec) -> MemoryTerm | None:
    rows = plan.eval_micro_batch_size if moment is Moment.EVALUATION else None
    plan = replace(plan, micro_batch_size=rows or plan.micro_batch_size)
    entries = num_answer_tokens(plan, model) * model.vocab_size
    formula = f"{entries:,} x {each}"
    name = f"{CAST_LOGITS}, {moment.value}"
    return MemoryTerm(name, each * entries, frozenset({moment}), formula) if entries else None
