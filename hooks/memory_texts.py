"""Texts that are compared with each other: what forwards keep that wait for another's backward, and what a loss makes of them."""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.layers.key_values import stream_element_bytes
from preflight.formulas.objectives.kept_forwards import kept_by_layers, kept_to_be_pooled
from preflight.formulas.sharding import num_tokens
from preflight.formulas.texts import caches_gradients, forwards_of, shares_negatives, waiting_len
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import ALL_SAVED, STEP_MOMENTS, MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.units import ceil_div

SOURCE = "sentence_transformers/losses, models/Pooling.py (3.0 to 6.2)"


@hookimpl
def preflight_memory_terms(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price the forwards of other texts, and what compares embeddings."""
    tokens = num_tokens(plan)
    if plan.objective != "embedding" or not tokens or not model.is_decoder_lm:
        return
    found = forwards_of(plan)
    waiting = found.waiting * ceil_div(tokens * waiting_len(plan), found.rows * (plan.seq_len or 1))
    kept, of_pooling = _kept(plan, model, waiting, found.others)
    loss = frozenset({Moment.LOSS_FORWARD})
    for name, num_bytes, moments in (
        ("activations of texts that wait", kept, ALL_SAVED),
        ("token embeddings of texts that wait", of_pooling, loss),
        ("embeddings, compared", _compared(plan, model), loss | {Moment.LOSS_BACKWARD}),
        ("a whole batch's embeddings and rows", _cached(plan, model), frozenset(STEP_MOMENTS)),
    ):
        if num_bytes:
            yield MemoryTerm(name, num_bytes, moments, f"{num_bytes:,}", SOURCE)


def _kept(plan: LaunchPlan, model: ModelSpec, tokens: int, forwards: int) -> tuple[int, int]:
    """Return what other forwards keep for their backward, and the hidden states that they return."""
    if not tokens:
        return 0, 0
    states = tokens * stream_element_bytes(plan, model) * model.hidden_size
    kept = kept_by_layers(plan, model, tokens, forwards)
    return kept + kept_to_be_pooled(plan, model, tokens), states


def _cached(plan: LaunchPlan, model: ModelSpec) -> int:
    """Return what a loss with cached gradients holds from its first forward to its last backward: embeddings of the whole
    batch with their gradients in fp32, and ids, mask and types of its tokens, which are int64."""
    if not caches_gradients(plan):
        return 0
    rows = (plan.micro_batch_size or 1) * (plan.texts_per_row or 1)
    return rows * (2 * 4 * model.hidden_size + 3 * 8 * (plan.seq_len or 0))


def _compared(plan: LaunchPlan, model: ModelSpec) -> int:
    """Return what a loss makes of embeddings: each anchor beside every other text of the batch, as scores in fp32."""
    micro, texts = plan.micro_batch_size or 1, plan.texts_per_row or 1
    anchors = min(micro, plan.cached_rows or micro)
    ranks = (plan.world_size or 1) if shares_negatives(plan) else 1
    scores = 4 * anchors * ranks * micro * ranks * max(1, texts - 1)
    embeddings = 4 * texts * micro * ranks * model.hidden_size
    return 3 * (scores + embeddings)
