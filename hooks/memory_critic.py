"""What the critic of verl's PPO surely keeps on the card beside its actor; its update is judged beside the estimate (bounds.py)."""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.objectives.actor_losses import trains_actor
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import MemoryTerm
from preflight.model import ModelSpec


@hookimpl
def preflight_memory_terms(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price the shards of a critic that has the policy's shapes, and their optimizer states."""
    if plan.objective != "ppo" or not trains_actor(plan):
        return ()
    from preflight.formulas.objectives.critics import kept_by_critic  # few launches have one

    return kept_by_critic(plan, model)
