"""The critic of verl's PPO: a value model that is trained beside the actor, in an update of its own.

Its update holds what the actor's does with as many rows, but for logits; what both keep between updates, parameters and
optimizer states in the dtype that they are loaded in, is there in each of them, unless all of it is moved to the host
(workers/fsdp_workers.py CriticWorker, 0.2.0 to 0.7.1; engine_workers.py, 0.9.1).
"""

from __future__ import annotations

from preflight.bool_words import is_true
from preflight.formulas.objectives.actor_losses import trains_actor
from preflight.formulas.precision import precision_of
from preflight.formulas.sharding import held_tensors, local_elements
from preflight.launch import LaunchPlan
from preflight.memory import ALWAYS, MemoryTerm
from preflight.model import ModelSpec
from preflight.units import dtype_bytes
from preflight.versions.verl import RECOMPUTES_BY_DEFAULT

SECTION = "critic.model.fsdp_config"
CHECKPOINTS = "critic.model.enable_gradient_checkpointing"
ADAM = 3
"""A parameter and its two states."""


def states_of_critic(plan: LaunchPlan, model: ModelSpec) -> MemoryTerm | None:
    """Return what a critic of the policy's shapes holds beside the actor at most; None where it has other shapes, or
    nobody says how many rows its micro batch has."""
    generation = plan.generation
    if not trains_actor(plan) or generation is None or generation.critic_rows is None:
        return None
    if plan.adapter is not None:
        return None  # it trains whole all the same, or adapters of its own
    moved = generation.offloads_params and generation.offloads_optimizer
    moved = moved and all(_is_on(plan, name) for name in ("param_offload", "optimizer_offload"))
    layers = [held for held in held_tensors(plan, model) if held.unit.role != "lm_head"]
    elements = sum(held.count * local_elements(plan, held) for held in layers)
    # gradients of a critic in fp32 are wider than those of an actor in 16 bits, which are counted
    copies_of_each = ADAM if dtype_bytes(precision_of(plan, model).gradient) == 4 else ADAM + 1
    num_bytes = 0 if moved else 4 * copies_of_each * elements
    formula = f"{copies_of_each} x {elements:,} x 4 (fp32)"
    if moved:
        formula = "on the host between its updates"
    return MemoryTerm("parameters and states of the critic", num_bytes, ALWAYS, formula, SECTION)


def recomputes(plan: LaunchPlan) -> bool:
    """Tell whether a critic surely checkpoints its activations, as an actor may that it is bounded by."""
    by_default = RECOMPUTES_BY_DEFAULT.holds_in(plan.versions)
    return is_true(plan.trainer_facts.value(CHECKPOINTS, by_default))


def _is_on(plan: LaunchPlan, name: str) -> bool:
    return is_true(plan.trainer_facts.value(f"{SECTION}.{name}"))
