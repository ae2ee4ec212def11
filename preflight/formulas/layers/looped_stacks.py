"""The most that stacked experts take beside the estimate which older releases of transformers index one by one in training.

`stack[expert]` is a view, and its gradient as large as the whole stack: one is there for the expert at hand, one sums up those
before it, and one is their sum. Autocast casts the view of each expert anew, and what it makes stays for backward; of a layer
that is checkpointed, until its own is over (GptOssExperts in models/gpt_oss/modeling_gpt_oss.py, 4.55.0 to 4.57.6).
tests/formulas/test_looped_stacks.py holds what real steps took.
"""

from __future__ import annotations

from preflight.formulas.precision import precision_of
from preflight.formulas.sharding import num_tokens
from preflight.launch import LaunchPlan
from preflight.memory import ALL_SAVED, LAYER_BACKWARD, MemoryTerm
from preflight.model import EXPERTS, ModelSpec

ALIVE = 2
"""Gradients of a stack that are there beside the one that the estimate counts."""
OF_ROWS = 2
"""Rows of hidden values that stay of each place of a token beside those that stay in newer releases."""


def looped_at_most(plan: LaunchPlan, model: ModelSpec) -> list[MemoryTerm]:
    """Return the terms of what a layer's stacks take so; none where they are adapted, packed or divided themselves."""
    is_divided = plan.tensor_parallel_degree > 1 or plan.expert_parallel_degree > 1
    if plan.adapter is not None or plan.base_quantization is not None or is_divided:
        return []
    precision, tokens = precision_of(plan, model), num_tokens(plan)
    compute, stored = precision.bytes_of("compute"), precision.bytes_of("trainable")
    sizes: list[tuple[int, int, int]] = []  # layers of a kind, elements of stacks, bytes that stay
    for unit in model.layers:
        stacks = sum(each.num_params for each in unit.tensors if each.kind == EXPERTS)
        places = 0 if unit.layer is None else tokens * (unit.layer.experts_per_token or 0)
        copies = stacks * compute if stored > compute else 0
        sizes.append((unit.count, stacks, copies + OF_ROWS * places * model.hidden_size * compute))
    is_recomputed = plan.activation_checkpointing == "full"
    of_one = max((stays for _, _, stays in sizes), default=0)
    kept = of_one if is_recomputed else sum(count * stays for count, _, stays in sizes)
    largest = max((stacks for _, stacks, _ in sizes), default=0)
    passing = ALIVE * largest * stored
    return [
        MemoryTerm(
            "gradients of stacks, expert by expert, at most",
            passing,
            LAYER_BACKWARD,
            f"{ALIVE} x {largest:,} x {stored}",
        ),
        MemoryTerm(
            "copies of experts that autocast makes one by one, at most",
            kept,
            LAYER_BACKWARD if is_recomputed else ALL_SAVED,
            f"{kept:,}",
        ),
    ]
