"""Heads that score: no logits of a vocabulary, but a value for every token or row, and the last norm's own bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from preflight.formulas.heads import SCORE, bytes_of_more_labels, head_of_encoder, scores
from preflight.formulas.precision import precision_of
from preflight.formulas.sharding import num_tokens
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import MemoryTerm, Moment
from preflight.model import ModelSpec


class NormBytes(NamedTuple):
    """Bytes per token and hidden entry that the last norm takes in passing, where no logits take more."""

    forward: int
    backward: int


NORM = {
    "adapter": NormBytes(10, 20),
    "bf16": NormBytes(8, 14),
    "fp16": NormBytes(8, 14),
    "autocast": NormBytes(4, 12),
    "fp32": NormBytes(6, 8),
}
"""What trains -> the last norm's bytes."""
FORWARD = frozenset({Moment.LOSS_FORWARD})
BACKWARD = frozenset({Moment.LOSS_BACKWARD})


@hookimpl
def preflight_memory_terms(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price the scores that a head makes in the place of logits."""
    tokens = num_tokens(plan)
    if not tokens or not model.is_decoder_lm or not scores(plan, model):
        return
    if head_of_encoder(plan, model) is not None:
        yield from _labels(plan, model, tokens)
    else:
        yield from _scored(plan, model, tokens)


def _scored(plan: LaunchPlan, model: ModelSpec, tokens: int) -> Iterable[MemoryTerm]:
    """A score for every token and label, of which a pooled head uses one token's; its gradient is as large."""
    labels = sum(tensor.shape[0] for unit, tensor in model.tensors() if unit.name == SCORE)
    precision = precision_of(plan, model)
    size = precision.bytes_of("compute")
    kind = "adapter" if plan.adapter is not None else precision.trainable
    norm = NORM["autocast" if kind == "fp32" and size == 2 else kind]
    yield MemoryTerm(
        "scores and their gradient",
        2 * size * tokens * labels,
        FORWARD | BACKWARD | {Moment.HEAD_BACKWARD},
        f"2 x {tokens:,} x {labels} x {size}",
        "transformers/modeling_layers.py GenericForSequenceClassification (5.24.0)",
    )
    for name, each, moment in (
        ("last norm, without logits beside it", norm.forward, Moment.LOSS_FORWARD),
        (
            "gradients in the last norm, without logits beside them",
            norm.backward,
            Moment.LOSS_BACKWARD,
        ),
    ):
        if each:
            yield MemoryTerm(
                name,
                each * tokens * model.hidden_size,
                frozenset({moment}),
                f"{tokens:,} x {model.hidden_size:,} x {each}",
                "traces with a vocabulary of 8 (transformers 5.24.0), the most of Llama, Gemma 2 and GPT-2",
            )


def _labels(plan: LaunchPlan, model: ModelSpec, tokens: int) -> Iterable[MemoryTerm]:
    """The scores of an encoder's classifier beyond the two labels that it was traced with; an embedding has none."""
    more = bytes_of_more_labels(plan, model, tokens)
    if more:
        name = "scores of more labels"
        yield MemoryTerm(name, more, FORWARD | BACKWARD, f"{more:,}", LABELS_SOURCE)


LABELS_SOURCE = "preflight/formulas/heads.py: of a vocabulary as large"
