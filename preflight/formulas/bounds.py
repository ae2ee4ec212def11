"""What cannot be counted and is bounded all the same: a launch fits in spite of it where the dearest that it may be does."""

from __future__ import annotations

import re
from dataclasses import replace

from preflight.formulas.adapters import adapter_targets
from preflight.formulas.checkpoint import bounded, packed_at_most
from preflight.formulas.critics import CRITIC, recomputes, states_of_critic
from preflight.formulas.groups import critic_of_group, on_fewer_cards
from preflight.formulas.left_out import UNLISTED
from preflight.launch import LaunchPlan
from preflight.memory import MemoryTerm
from preflight.model import ModelSpec
from preflight.plan_parts import LEFT_WHOLE
from preflight.values import dataclass

_AROUND_LAYERS = re.compile(r"(?i)embed|wte|wpe|head|output_layer|lm_|score")
"""Names of modules that stand outside the decoder's layers."""


@dataclass(frozen=True)
class Dearest:
    """The most that a launch may be in what its notices leave out."""

    plan: LaunchPlan
    terms: tuple[MemoryTerm, ...]
    """Beside those of the plan."""
    names: frozenset[str]
    """What of the notices is bounded by these."""


def dearest_of(plan: LaunchPlan, model: ModelSpec) -> Dearest | None:
    """Return the dearest that a plan may be in what is bounded; None where nothing of it is.

    Layers that a 4-bit copy leaves in 16 bits are no more than all of them; an adapter on modules of a layer, whatever
    they are called, is no more than one on every matrix of it. A critic's update with as many rows takes no more than
    the actor's that checkpoints as it does, beside what both keep.
    """
    named = {notice.unpriced for notice in plan.notices}
    dearest, terms, names = plan, [], set[str]()
    if LEFT_WHOLE in named:
        dearest = replace(dearest, base_quantization=None)
        names.add(LEFT_WHOLE)
    if UNLISTED in named and plan.adapter is not None:
        targets = adapter_targets(plan.adapter, model)
        if not _AROUND_LAYERS.search(targets if isinstance(targets, str) else " ".join(targets)):
            dearest = replace(dearest, adapter=replace(plan.adapter, targets="all-linear"))
            names.add(UNLISTED)
    packed = bounded(plan)
    if packed:
        terms.append(packed_at_most(plan, model))
        names |= packed
    fewer, of_fewer = on_fewer_cards(plan, model, named)
    if fewer is not None:
        terms.append(fewer)
        names |= of_fewer
    critic = None
    if CRITIC in named:
        critic = states_of_critic(plan, model) or critic_of_group(plan, model)
    if critic is not None and plan.generation is not None:
        rows = max(plan.micro_batch_size or 0, plan.generation.critic_rows or 0)
        dearest = replace(dearest, micro_batch_size=rows)
        if not recomputes(plan):
            dearest = replace(dearest, activation_checkpointing="none")
        terms.append(critic)
        names.add(CRITIC)
    return Dearest(dearest, tuple(terms), frozenset(names)) if names else None
