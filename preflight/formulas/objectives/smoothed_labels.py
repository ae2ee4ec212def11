"""The most that a loss of smoothed labels takes, which Trainer makes of the logits itself."""

from __future__ import annotations

from preflight.formulas.sharding import num_answer_tokens
from preflight.launch import LaunchPlan
from preflight.memory import MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.unpriced_names import LABEL_SMOOTHING

SMOOTHED = {Moment.LOSS_FORWARD: 8, Moment.LOSS_BACKWARD: 4}
"""Bytes of an entry of the logits that smoothed labels take at most beyond the model's own loss: a copy, log-probabilities
and what is less than those (transformers/trainer_pt_utils.py LabelSmoother, 5.24; counted by tests/formulas/test_smoothing.py)."""


def smoothed_at_most(plan: LaunchPlan, model: ModelSpec) -> list[MemoryTerm]:
    """Return the terms of a loss of smoothed labels, which the Trainer takes of whole logits."""
    entries = num_answer_tokens(plan, model) * model.vocab_size
    return [
        MemoryTerm(
            f"{LABEL_SMOOTHING}, {moment.value}",
            each * entries,
            frozenset({moment}),
            f"{entries:,} x {each}",
        )
        for moment, each in SMOOTHED.items()
    ]
