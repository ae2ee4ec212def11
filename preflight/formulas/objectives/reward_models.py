"""A reward model that scores completions: of the policy's size beside it, and of another size at most.

TRL loads it in the policy's dtype, or by its name in fp32, gives it all completions of a rollout at once and prepares it under
DeepSpeed alone (trl/trainer/grpo_trainer.py:1579-1640, ppo_trainer.py, 1.16.0 and 1.12.0). verl's is wrapped as the actor is, in
bf16 and on the host between its layers (workers/fsdp_workers.py RewardModelWorker, 0.2.0 to 0.6.1).
"""

from __future__ import annotations

from collections.abc import Mapping

from preflight.formulas.engines.rollouts import rows_of_forward, with_tokens
from preflight.formulas.layers.heads import trains_value_model
from preflight.formulas.layers.key_values import cache_bytes, stream_element_bytes
from preflight.formulas.layers.layer_costs import layer_costs
from preflight.formulas.objective import scores_in_loss
from preflight.formulas.objectives.actor_losses import trains_actor
from preflight.formulas.objectives.forward_alone import (
    autocast_copies,
    gathered_in_forward,
    gathered_of_copy,
    hidden_states,
)
from preflight.formulas.objectives.ppo import without_autocast
from preflight.formulas.precision import load_dtype, precision_of
from preflight.formulas.sharding import held_tensors, local_elements
from preflight.launch import LaunchPlan
from preflight.memory import ALWAYS, MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.units import dtype_bytes
from preflight.values import replace


def reward_model_bytes(plan: LaunchPlan, model: ModelSpec) -> tuple[int, int]:
    """Return what a rank holds of TRL's reward model, and what its forward takes."""
    copy = replace(plan, adapter=None, base_quantization=None)
    size = dtype_bytes(load_dtype(copy, model))
    if copy.zero_stage is not None:
        size = precision_of(copy, model).bytes_of("compute")
    shards = copy.engine == "zero3"
    elements = sum(
        held.count * (local_elements(copy, held) if shards else held.tensor.num_params)
        for held in held_tensors(copy, model)
        if held.unit.role != "lm_head"
    )
    passing = gathered_of_copy(copy, model).passing if shards else 0
    rows = rows_of_forward(plan)
    if trains_value_model(plan):
        copy = without_autocast(copy)
    if rows and plan.seq_len and is_laid_out(model):
        passing += autocast_copies(copy, model) + layer_at_hand(copy, model, rows)
        if trains_value_model(plan):
            return size * elements, passing + hidden_states(copy, model, rows * plan.seq_len)
        passing += cache_bytes(copy, model, rows, plan.seq_len)  # use_cache of its config is on
    return size * elements, passing


def is_laid_out(model: ModelSpec) -> bool:
    layer = model.largest_layer
    return layer is not None and layer.layer is not None


def layer_at_hand(copy: LaunchPlan, model: ModelSpec, rows: int) -> int:
    """Return what the layer at hand needs of so many rows, between two that are as wide as the model."""
    layer, length = model.largest_layer, copy.seq_len
    assert layer is not None and length is not None
    there = with_tokens(copy, rows, length)
    costs = layer_costs(there, model, layer, precision_of(copy, model))
    stream = stream_element_bytes(copy, model) * model.hidden_size
    return rows * length * (costs.forward_checkpointed + 2 * stream)


def scored_at_most(plan: LaunchPlan, known: Mapping[str, ModelSpec]) -> tuple[MemoryTerm, ...]:
    """Return the most that the reward models of a plan take; nothing where the shapes of one are not known."""
    models = [known.get(name) for name in plan.reward_models or ()]
    generation = plan.generation
    terms: list[MemoryTerm] = []
    for number, model in enumerate(models):
        if model is None or generation is None or not plan.seq_len or not is_laid_out(model):
            return ()
        if trains_actor(plan):
            if generation.reward_rows is None:
                return ()
            wrapped = replace(plan, adapter=None, base_quantization=None, load_dtype="bf16")
            # a unit on the card, and what came of it from the host
            held, passing = 0, 2 * sum(gathered_in_forward(wrapped, model))
            passing += layer_at_hand(wrapped, model, generation.reward_rows)
        else:
            held, passing = reward_model_bytes(replace(plan, load_dtype="fp32"), model)
        always = ALWAYS | {Moment.PREPARE}
        beside = frozenset({Moment.LOSS_FORWARD if scores_in_loss(plan) else Moment.SCORING})
        for what, num_bytes, moments in (
            ("parameters", held, always),
            ("forward", passing, beside),
        ):
            name = f"{what} of reward model {number + 1}"
            terms.append(MemoryTerm(name, num_bytes, moments, f"{num_bytes:,}", __name__))
    return tuple(terms)
