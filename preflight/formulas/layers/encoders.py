"""What of an encoder's training no formula counts: a head that nobody names."""

from __future__ import annotations

from collections.abc import Iterator

from preflight.errors import Problem
from preflight.formulas.layers.heads import head_of_encoder
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec

HEAD = "the head of an encoder"
TEXTS = "how many texts a row has"


def left_out_of_encoder(plan: LaunchPlan, model: ModelSpec) -> Iterator[Problem]:
    """Yield that nothing says what is trained on an encoder, or that what is trained was traced on encoders alone."""
    of_encoders = plan.objective == "masked_lm"
    if plan.is_read and plan.objective == "embedding" and plan.texts_per_row is None:
        yield Problem(
            "every column of the data is a forward of its own, and nothing says how many there are",
            fix="--set texts_per_row=2 for pairs, 3 for triplets",
            id="PF129",
            severity="warning",
            unpriced=TEXTS,
            takes="more",
        )
    is_unsaid = model.is_encoder and head_of_encoder(plan, model) is None
    if is_unsaid or (of_encoders and not model.is_encoder):
        yield Problem(
            f"{model.name} is an encoder, and nothing says what is trained on it"
            if model.is_encoder
            else f"{model.name} is no encoder whose layers are known, and {plan.objective} was traced with these",
            fix="--set objective=masked_lm, sequence_classification or token_classification, where that is so",
            id="PF129",
            severity="warning",
            unpriced=HEAD,
            takes="either",
        )
