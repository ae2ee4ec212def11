"""The critic of verl's PPO: a value model that is trained beside the actor, in an update of its own.

Its update holds what the actor's does with as many rows, but for logits; what both keep between updates, parameters and
optimizer states in the dtype that they are loaded in, is there in each of them, unless all of it is moved to the host
(workers/fsdp_workers.py CriticWorker, 0.2.0 to 0.7.1; engine_workers.py, 0.9.1).
"""

from __future__ import annotations

from preflight.formulas.actor_losses import trains_actor
from preflight.formulas.deepspeed_rules import bucket_elements
from preflight.formulas.outside_torch import CUDA_CONTEXT_BYTES, NCCL_FIRST_BYTES
from preflight.formulas.precision import precision_of
from preflight.formulas.rollouts import places_groups
from preflight.formulas.sharding import held_tensors, local_elements
from preflight.launch import LaunchPlan
from preflight.memory import ALWAYS, MemoryTerm
from preflight.model import ModelSpec
from preflight.units import ceil_div, dtype_bytes
from preflight.versions.verl import RECOMPUTES_BY_DEFAULT

CRITIC = "a critic"
SECTION = "critic.model.fsdp_config"
CHECKPOINTS = "critic.model.enable_gradient_checkpointing"
ADAM = 3
"""A parameter and its two states."""


def states_of_critic(plan: LaunchPlan, model: ModelSpec) -> MemoryTerm | None:
    """Return what a critic of the policy's shapes holds beside the actor at most; None where it has other shapes, or
    nobody says how many rows its micro batch has."""
    generation = plan.generation
    if places_groups(plan):
        return _of_group(plan, model)
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


def _of_group(plan: LaunchPlan, model: ModelSpec) -> MemoryTerm | None:
    """Return what a critic of OpenRLHF's has on the actor's card under ZeRO, in a process of its own: parameters, and
    between updates its states where they do not sleep (trainer/ray/ppo_critic.py, 0.5.9 to 0.11.2)."""
    generation = plan.generation
    if generation is None or generation.critic_rows is None or plan.adapter is not None:
        return None
    elements = model.num_params - model.head_params
    size, stage, share = 2, plan.zero_stage or 0, plan.shard_degree if plan.zero_stage else 1
    shard = ceil_div(elements, share)
    held = size * (shard if stage == 3 else elements)
    stays = not generation.offloads_optimizer and plan.offload_optimizer == "none"
    states = (4 * ADAM + size * (stage == 3)) * shard if stays else 0
    buckets = size * bucket_elements(plan, model) if stays and stage == 3 else 0
    context = CUDA_CONTEXT_BYTES + NCCL_FIRST_BYTES
    formula = (
        f"{held:,} + {states:,} of states + {buckets:,} of a bucket + {context:,} of its process"
    )
    name = "parameters and states of the critic"
    return MemoryTerm(name, held + states + buckets + context, ALWAYS, formula, GROUP)


GROUP = "openrlhf/trainer/ray/ppo_critic.py (0.5.9 to 0.11.2)"


def recomputes(plan: LaunchPlan) -> bool:
    """Tell whether a critic surely checkpoints its activations, as an actor may that it is bounded by."""
    by_default = RECOMPUTES_BY_DEFAULT.holds_in(plan.versions)
    return str(plan.trainer_facts.value(CHECKPOINTS, by_default)).lower() == "true"


def _is_on(plan: LaunchPlan, name: str) -> bool:
    return str(plan.trainer_facts.value(f"{SECTION}.{name}", False)).lower() == "true"
