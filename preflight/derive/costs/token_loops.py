"""Layers that loop over the tokens of a sequence: how they are told, how they are traced, and what grows with a token."""

from __future__ import annotations

from functools import cache

from preflight.derive.costs.loops import NotAlike, Turns
from preflight.derive.layouts.small_models import small_config, small_launch
from preflight.models import describe
from preflight.trace.job import job_of
from preflight.trace.log import LAYER_FORWARD

FEW, MANY = 67, 101
"""Tokens of the sequences that are traced: primes, which no width is a multiple of, and more than LARGEST_COUNT
(cost_forms.py), so that a whole sequence is not mistaken for so many of a token's."""
COUNTED = (5, 9)
"""The same where tensors are only counted."""
BATCHES = (7, 11, 13)
UNPACKING_BATCHES = (23, 29, 31)
"""The same on a packed base: more tokens than its fused product takes."""


@cache
def loops_over_tokens(model_type: str) -> bool:
    """Tell whether a layer of a type makes more tensors of a longer sequence, where it has no chunks of its own."""
    from preflight.trace.run import trace

    config = small_config(model_type)
    spec = describe(config, model_type, "small_models.py")
    counts = []
    for length in COUNTED:
        plan = small_launch(model_type, "full", False, micro_batch_size=2, seq_len=length)
        log = trace(job_of(plan, spec, full_depth=True), num_steps=1).log
        counts.append(
            sum(len(changes) for part, changes in log.changes() if part.name == LAYER_FORWARD)
        )
    return counts[0] != counts[1]


def shapes_of(num_tokens: int, is_packed: bool) -> tuple[tuple[int, int], ...]:
    """Return sequences and their length by variant: one length, so that all loop equally often."""
    batches = UNPACKING_BATCHES if is_packed else BATCHES
    return tuple((batch, num_tokens) for batch in batches)


def _of_all_tokens(name: str, each: int) -> tuple[str, int]:
    """Return what a token of every sequence takes as what all tokens do."""
    scale, _, width = name.partition("*")
    if scale == "B":
        return f"T*{width or '1'}", each
    if name == "C":
        return "L*1", each
    raise NotAlike(f"{name} grows with the tokens")


TURNS = Turns(FEW, MANY, _of_all_tokens)
