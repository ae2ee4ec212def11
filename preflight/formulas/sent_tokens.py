"""The most that experts take which are divided over ranks: a router may send one rank all tokens of the ranks that share them.

A plan is estimated with as many rows on each rank as its own tokens make, which is what an even router gives. A row that comes
from another rank is copied in the order of experts, and its copy, both gates, their product and what is made of one of them stay
for backward; of selective checkpointing what was sent, and in some releases of torch the products (models/common/token_dispatcher.py
and moe.py of torchtitan's main branch, August 2026). tests/formulas/test_sent_tokens.py holds what ranks really kept.
"""

from __future__ import annotations

from collections.abc import Iterator

from preflight.formulas.precision import precision_of
from preflight.formulas.sharding import num_tokens
from preflight.formulas.tensor_parallel import cuts_stream
from preflight.launch import LaunchPlan
from preflight.memory import ALL_SAVED, LAYER_BACKWARD, Level, MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.units import ceil_div
from preflight.unpriced_names import SENT_TOKENS
from preflight.values import dataclass

PLACES = 16
"""Bytes of a row's places in the order of ranks and of experts."""


@dataclass(frozen=True)
class RowBytes:
    """Bytes of one row that another rank sends."""

    kept: int
    """Of a layer without checkpointing, from forward to backward."""
    selective: int
    """Of one whose products and what was sent are kept."""
    passing: int
    """Beside what is kept, while the layer runs in either direction."""


def row_bytes(hidden: int, inner: int, compute: int) -> RowBytes:
    """Return the bytes of a row of hidden values in experts of some inner width, in a dtype of `compute` bytes."""
    return RowBytes(
        kept=compute * (hidden + 4 * inner) + PLACES,
        selective=compute * (2 * hidden + 2 * inner) + PLACES,
        passing=compute * (2 * hidden + 2 * inner),
    )


def rows_from_others(tokens: int, top_k: int, num_experts: int, degree: int) -> int:
    """Return how many more rows a rank may get than its own tokens make: each token goes to an expert once at most."""
    return tokens * max(0, degree * min(top_k, ceil_div(num_experts, degree)) - top_k)


def sent_at_most(plan: LaunchPlan, model: ModelSpec) -> list[MemoryTerm]:
    """Return the terms of rows from other ranks; none where nobody says how many share the experts."""
    if plan.expert_parallel_degree < 2 or not plan.seq_len or plan.pipeline is not None:
        return []
    return list(_terms(plan, model))


def _terms(plan: LaunchPlan, model: ModelSpec) -> Iterator[MemoryTerm]:
    tokens, compute = num_tokens(plan), precision_of(plan, model).bytes_of("compute")
    if cuts_stream(plan):
        tokens = ceil_div(tokens, plan.tensor_parallel_degree)
    kept = one = passing = 0
    mode = plan.activation_checkpointing
    for unit in model.layers:
        shape = unit.layer
        if shape is None or not shape.num_experts:
            continue
        rows = rows_from_others(
            tokens, shape.experts_per_token, shape.num_experts, plan.expert_parallel_degree
        )
        each = row_bytes(shape.hidden_size, shape.moe_intermediate_size, compute)
        stays = {"full": 0, "selective_op": each.selective}.get(mode or "none", each.kept)
        kept += unit.count * rows * stays
        one = max(one, rows * (each.kept if stays != each.kept else 0))
        passing = max(passing, rows * each.passing)
    every = {"kept": (kept, ALL_SAVED), "recomputed": (one, LAYER_BACKWARD), "in passing": (passing, LAYER_BACKWARD | {Moment.FORWARD})}  # fmt: skip
    for word, (num_bytes, moments) in every.items():
        name = f"rows that other ranks send, {word}, at most"
        formula = f"{num_bytes:,}: {plan.expert_parallel_degree} ranks share experts"
        yield MemoryTerm(name, num_bytes, moments, formula, SENT_TOKENS)
        if not plan.expandable_segments:  # blocks of one number of rows do not serve for another
            yield MemoryTerm(
                f"{name}, in blocks", num_bytes, moments, formula, SENT_TOKENS, Level.RESERVED
            )
