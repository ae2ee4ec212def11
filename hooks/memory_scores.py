"""Heads that score: no logits of a vocabulary, but a value for every token or row, and the last norm's own bytes."""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.layers.heads import SCORE, bytes_of_more_labels, head_of_encoder, scores
from preflight.formulas.objective import has_value_head, of_one_forward
from preflight.formulas.objectives.forward_alone import outputs_of_layers
from preflight.formulas.precision import precision_of
from preflight.formulas.sharding import num_tokens
from preflight.formulas.tensor_parallel import local_vocab
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.values import NamedTuple


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
    if has_value_head(plan):
        yield from _values(plan, model, tokens)
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
    unread = _unread_logits(plan, model, tokens)
    one = num_tokens(of_one_forward(plan))
    waiting = (4 + size) * (tokens - one)  # what another forward's norm keeps
    for name, each, beside, moment in (
        ("last norm, without logits beside it", norm.forward, unread, Moment.LOSS_FORWARD),
        (
            "gradients in the last norm, without logits beside them",
            norm.backward,
            0,
            Moment.LOSS_BACKWARD,
        ),
    ):
        beyond = (each * one + waiting) * model.hidden_size - beside
        if beyond > 0:
            yield MemoryTerm(
                name,
                beyond,
                frozenset({moment}),
                f"({one:,} x {each} + {waiting:,}) x {model.hidden_size:,}"
                + (f" - {beside:,}" if beside else ""),
                "traces with a vocabulary of 8 (transformers 5.24.0), the most of Llama, Gemma 2 and GPT-2",
            )


def _unread_logits(plan: LaunchPlan, model: ModelSpec, tokens: int) -> int:
    """Return the bytes of logits beside a value: whole in their own dtype and in fp32, and gone with the forward."""
    if not has_value_head(plan):
        return 0
    size = precision_of(plan, model).bytes_of("logits")
    return (4 if size == 4 else size + 4) * tokens * local_vocab(plan, model.vocab_size)


def _values(plan: LaunchPlan, model: ModelSpec, tokens: int) -> Iterable[MemoryTerm]:
    """What stands beside a value: logits that no loss reads, every layer's hidden states, and what the head, which is
    fp32, reads of the last."""
    for name, num_bytes, moments in (
        ("logits that no loss reads", _unread_logits(plan, model, tokens), FORWARD),
        (
            "hidden states of every layer",
            outputs_of_layers(plan, model, tokens, has_graph=True),
            FORWARD,
        ),
        ("what the value head reads, in fp32", 4 * tokens * model.hidden_size, FORWARD | BACKWARD),
    ):
        if num_bytes:
            yield MemoryTerm(name, num_bytes, moments, f"{num_bytes:,}", VALUES_SOURCE)


VALUES_SOURCE = "trl/models/modeling_value_head.py (0.8.6 to 0.24.0)"


def _labels(plan: LaunchPlan, model: ModelSpec, tokens: int) -> Iterable[MemoryTerm]:
    """The scores of an encoder's classifier beyond the two labels that it was traced with; an embedding has none."""
    more = bytes_of_more_labels(plan, model, tokens)
    if more:
        name = "scores of more labels"
        yield MemoryTerm(name, more, FORWARD | BACKWARD, f"{more:,}", LABELS_SOURCE)


LABELS_SOURCE = "preflight/formulas/layers/heads.py: of a vocabulary as large"
