"""ZeRO's sizes in elements after `auto`, and what of the parameters stage 3 keeps gathered."""

from __future__ import annotations

from collections import Counter

from preflight.formulas.objective import is_of_trl, reference_of, steps_of_rollout
from preflight.formulas.sharding import held_tensors
from preflight.launch import DeepSpeedSettings, LaunchPlan
from preflight.model import ModelSpec
from preflight.units import ceil_div

UP_TO_EMBEDDING, UP_TO_ADAPTER = 2, 6
"""Modules that fetch ahead once head and embedding are fetched until the embedding has computed, and from there to the first
adapter of a projection of attention (a Llama of transformers 5.24 under PEFT 0.21)."""


def settings_of(plan: LaunchPlan) -> DeepSpeedSettings:
    """Return the plan's DeepSpeed settings, DeepSpeed's own defaults where it has none."""
    return plan.deepspeed or DeepSpeedSettings()


def bucket_elements(plan: LaunchPlan, model: ModelSpec) -> int:
    """Return reduce_bucket_size; `auto` is hidden_size squared (transformers/integrations/deepspeed.py:136-263, 5.24.0)."""
    size = settings_of(plan).reduce_bucket_size
    return model.hidden_size**2 if size is None else size


def prefetch_elements(plan: LaunchPlan, model: ModelSpec) -> int:
    """Return stage3_prefetch_bucket_size; `auto` is 0.9 times hidden_size squared."""
    size = settings_of(plan).stage3_prefetch_bucket_size
    return int(0.9 * model.hidden_size**2) if size is None else size


def overlaps(plan: LaunchPlan) -> bool:
    """Tell whether communication overlaps: DeepSpeed's default is true for stage 3 only (runtime/zero/config.py)."""
    value = settings_of(plan).overlap_comm
    return plan.zero_stage == 3 if value is None else value


def reduces_in_backward(plan: LaunchPlan) -> bool:
    """Tell whether gradients are reduced as they appear: stage 1 without overlap waits for the end of the
    backward pass (deepspeed/runtime/zero/stage_1_and_2.py create_gradient_handling_hooks, 0.19.8)."""
    return plan.zero_stage != 1 or overlaps(plan)


def sub_groups(plan: LaunchPlan, model: ModelSpec) -> Counter[int]:
    """Return how many sub groups of how many elements stage 3 makes of a rank's parts of what trains.

    A group takes whole parameters until it has sub_group_size, so it is never smaller than one of them
    (deepspeed/runtime/zero/stage3.py:1208 _create_fp16_sub_groups, 0.19.8). Parameters of one shape are taken together.
    None at all where the model's parameters are not known one by one.
    """
    size, rest = settings_of(plan).sub_group_size, 0
    groups: Counter[int] = Counter()
    if model.is_counted_alone:
        return groups
    for held in held_tensors(plan, model):
        if held.trains and held.tensor.num_params:
            part = ceil_div(held.tensor.num_params, plan.shard_degree)
            parts = max(1, ceil_div(size, part))
            groups[parts * part] += held.count // parts
            rest += held.count % parts * part
    if rest:
        groups[size] += rest // size
        groups[rest % size] += 1
    return +groups


def largest_sub_group(plan: LaunchPlan, model: ModelSpec) -> int:
    """Return the most elements that stage 3 steps over at once; at least so many where parameters are not known one by one."""
    return max(sub_groups(plan, model), default=settings_of(plan).sub_group_size)


def knows_what_comes(plan: LaunchPlan) -> bool:
    """Tell whether stage 3 knows in a forward what its backward uses again: it records a forward with its backward, and
    throws that away when another forward of the same engine comes between two of them.

    A reference that is the policy with its adapter off comes in every step, and so do the answers of KTO's KL term; a rollout
    or its scoring before the first of its steps, of which the second is recorded and the third goes by it
    (partitioned_param_coordinator.py reset_step, _invalidate_trace, 0.19.8; counted by tests/formulas/engine_steps.py).
    """
    if plan.generation is not None:
        if plan.objective == "ppo" or not is_of_trl(plan):  # which go over a rollout more than once
            return True
        return steps_of_rollout(plan) > 2 or plan.trainer_facts.value("num_iterations", 1) != 1
    if plan.objective == "kto" and plan.trainer_facts.value("loss_type", "kto") == "kto":
        return False
    return reference_of(plan) != "adapter_off"


def largest_module(model: ModelSpec) -> int:
    """Return the most elements that one module of a layer has itself: stage 3 gathers and releases module by module."""
    modules: Counter[tuple[str, str]] = Counter()
    for unit in model.layers:
        for tensor in unit.tensors:
            modules[unit.name, tensor.name.rpartition(".")[0]] += tensor.num_params
        if unit.layer is not None and unit.layer.num_experts:
            modules[unit.name, ""] += unit.num_params  # a leaf is gathered whole
    return max(modules.values(), default=0)


def tail_elements(model: ModelSpec) -> int:
    """Return the elements of the head, which is the embedding's where both are tied."""
    return model.head_params or (model.embedding_params if model.tied else 0)


def used_again(plan: LaunchPlan, model: ModelSpec) -> int:
    """Return the elements that a backward uses after their forward: all but a frozen embedding of its own."""
    is_frozen = plan.adapter is not None and not plan.adapter.modules_to_save and not model.tied
    return model.num_params - (model.embedding_params if is_frozen else 0)


def live_in_forward(plan: LaunchPlan, model: ModelSpec, reads_head: bool) -> int:
    """Return the most elements that stage 3 has whole in a forward of which it records no backward: what it fetches ahead,
    in the first layers, or at the embedding, which is gone then; at the head the head alone is left.

    A loss that `reads_head` itself has the head from the beginning. A bucket is there twice while it is cut into parameters
    (partition_parameters.py AllGatherCoalescedHandle.wait, 0.19.8).
    """
    embedding = 0 if model.tied else model.embedding_params
    at_embedding = _fetched_ahead(plan, model, reads_head, UP_TO_EMBEDDING, 0)
    at_layers = min(_ahead(plan, model), model.num_params - embedding)
    return max(at_embedding, at_layers + min(at_layers, prefetch_elements(plan, model)))


def ahead_of_adapter(plan: LaunchPlan, model: ModelSpec) -> int:
    """Return the most elements that stage 3 has whole in a forward that leaves what the one before it was, as one with its
    adapter on after one with it off, or the other way round: at the first adapter, up to which modules fetch a bucket each.

    Two of PEFT's own modules fetch the head, which TRL's losses read themselves, and the embedding
    (partitioned_param_coordinator.py trace_prologue, 0.19.8; rows of 2 x 32 tokens in tests/formulas/engine_steps.jsonl).
    """
    return _fetched_ahead(plan, model, True, UP_TO_EMBEDDING + 1, UP_TO_ADAPTER)


def _fetched_ahead(
    plan: LaunchPlan, model: ModelSpec, reads_head: bool, before: int, after: int
) -> int:
    """Return the most elements that are whole while so many modules, before an embedding is gone and after it, fetch a
    bucket each, at least one parameter."""
    bucket, limit = prefetch_elements(plan, model), settings_of(plan).stage3_max_live_parameters
    embedding = 0 if model.tied else model.embedding_params
    sizes = (t.num_params for unit in model.layers for _ in range(unit.count) for t in unit.tensors)
    most = live = embedding + (tail_elements(model) if reads_head or model.tied else 0)
    for number in range(before + after):
        if number == before:
            live -= embedding
        fetched, room = 0, min(limit - live, bucket)
        while fetched < room and (size := next(sizes, 0)):
            fetched += size
        live += fetched
        most = max(most, live)
    return most


def live_parameters(plan: LaunchPlan, model: ModelSpec) -> int:
    """Return the elements of stage 3's gathered parameters around the loss, where a backward is recorded.

    Parameters used again within stage3_max_reuse_distance are not released; around the loss that is
    the last half of the distance (used once forward, once backward). Others come ahead of their use.
    """
    kept = settings_of(plan).stage3_max_reuse_distance // 2 + largest_module(model)
    return min(max(kept, _ahead(plan, model)), used_again(plan, model))


def _ahead(plan: LaunchPlan, model: ModelSpec) -> int:
    """Return how many elements are whole at most: every module that is fetched fetches another bucket's, at least one
    parameter, so that stage3_max_live_parameters are there soon, and the module at work; without a bucket that alone
    (partitioned_param_coordinator.py fetch_sub_module, 0.19.8)."""
    module = largest_module(model)
    live = settings_of(plan).stage3_max_live_parameters if prefetch_elements(plan, model) else 0
    return max(live + module, tail_elements(model))
