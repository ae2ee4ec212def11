"""The most that a step takes of its logits beyond a model's own loss: smoothed labels, and a head whose outcome is made fp32.

Smoothed labels take a copy of the logits, log-probabilities and what is less than those (transformers/trainer_pt_utils.py
LabelSmoother, 5.24; counted by tests/formulas/test_smoothing.py).
A module of the script's own around the head may make its outcome fp32, as PEFT's first examples had it. A model's own loss
casts its logits all the same (transformers/loss/loss_utils.py ForCausalLMLoss, 5.24), so that nothing is added there;
another loss, and what an update keeps, have them in fp32 instead of 16 bits, and their gradient likewise
(tests/formulas/test_cast_logits.py holds the count).
"""

from __future__ import annotations

from collections.abc import Mapping

from preflight.formulas.sharding import num_answer_tokens
from preflight.launch import LaunchPlan
from preflight.memory import MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.unpriced_names import CAST_LOGITS, LABEL_SMOOTHING
from preflight.values import replace

SMOOTHED = {Moment.LOSS_FORWARD: 8, Moment.LOSS_BACKWARD: 4}
"""Bytes of an entry of the logits that smoothed labels take."""
CAST = {Moment.LOSS_FORWARD: 4, Moment.LOSS_BACKWARD: 8, Moment.HEAD_BACKWARD: 4}
"""Bytes of an entry of the logits: a copy of them, and one of their gradient before it is narrow again."""
CAST_IN_EVALUATION = {Moment.EVALUATION: 4}
"""The same of an evaluation, whose micro batch has rows of its own."""


def smoothed_at_most(plan: LaunchPlan, model: ModelSpec) -> list[MemoryTerm]:
    """Return the terms of a loss of smoothed labels, which the Trainer takes of whole logits."""
    return _of_entries(LABEL_SMOOTHING, SMOOTHED, plan, model)


def cast_at_most(plan: LaunchPlan, model: ModelSpec) -> list[MemoryTerm]:
    """Return the terms of CAST_LOGITS; none, so that they stay named, where the length of rows is not known."""
    if not num_answer_tokens(plan, model):
        return []
    rows = plan.eval_micro_batch_size or plan.micro_batch_size
    evaluated = replace(plan, micro_batch_size=rows)
    of_evaluation = _of_entries(CAST_LOGITS, CAST_IN_EVALUATION, evaluated, model)
    return [*_of_entries(CAST_LOGITS, CAST, plan, model), *of_evaluation]


def _of_entries(
    name: str, num_bytes: Mapping[Moment, int], plan: LaunchPlan, model: ModelSpec
) -> list[MemoryTerm]:
    """Return a term of each moment for what an entry of a micro batch's logits takes then."""
    entries = num_answer_tokens(plan, model) * model.vocab_size
    return [
        MemoryTerm(
            f"{name}, {moment.value}", each * entries, frozenset({moment}), f"{entries:,} x {each}"
        )
        for moment, each in num_bytes.items()
    ]
