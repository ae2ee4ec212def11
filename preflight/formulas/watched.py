"""The most that `wandb.watch` takes on a card while it counts a histogram of a gradient that has just been made."""

from __future__ import annotations

from preflight.formulas.sharding import held_tensors
from preflight.launch import LaunchPlan
from preflight.memory import ALWAYS, MemoryTerm, at_most
from preflight.model import ModelSpec
from preflight.unpriced_names import WATCHED

WATCHED_BYTES = 20
"""Of an element: a copy, one in fp32 of 16 bits, a mask of what is finite, and where anything is not, its places and what is
left (wandb/integration/torch/wandb_torch.py log_tensor_stats, 0.13.5 and 0.19.11); of parameters it copies to the host first."""


def watched_at_most(plan: LaunchPlan, model: ModelSpec) -> list[MemoryTerm]:
    """Return the term of the largest tensor that trains; none where FSDP makes other tensors of a unit's parameters."""
    if plan.is_fsdp:
        return []
    elements = max((e.tensor.num_params for e in held_tensors(plan, model) if e.trains), default=0)
    formula = f"{elements:,} x {WATCHED_BYTES}"
    return [at_most(WATCHED, elements * WATCHED_BYTES, ALWAYS, formula, __name__)]
