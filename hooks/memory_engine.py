"""A vLLM engine beside the policy on every card: its weights, its keys and values, and how the policy's weights get there.

Without sleep mode it keeps its memory through every update; with it, memory is given back after a rollout, and weights are
awake while they are synchronized. A server is on cards that no rank of the launch has: weights are gathered for it all the
same. Two tensors are whole at a time, the one at hand and the one that its loop still holds:

    DDP, single, ZeRO-0 to 2   nothing
    ZeRO-3                     a parameter at a time, c each; with an adapter all of them, because it is merged first;
                               before TRL 0.16 all of them too (grpo_trainer.py _move_model_to_vllm, 0.15.2), and under
                               ms-swift (rlhf_trainers/rollout_mixin.py iter_state_dicts, 4.6.0)
    FSDP2                      a parameter at a time, as it is stored
    FSDP1                      a unit at a time, as it is stored
    verl's FSDP2               three of a parameter: gathered, cut and handed on (torch 2.13, on gloo)
    verl's FSDP1               the same, beside a copy of the shards, which its sharded state dict makes
    OpenRLHF                   a parameter, which ZeRO-3 gathers and an engine on the card gets a copy of (0.3.8 to 0.11.2)
    verl's adapters            the whole policy as it is stored, unless layered_summon is on (fsdp_utils.py, 0.7.1)
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.device import DeviceSpec
from preflight.formulas.engines.engines import engine_bytes
from preflight.formulas.engines.rollouts import generation_of, has_engine, places_groups
from preflight.formulas.objective import is_of_swift
from preflight.formulas.objectives.actor_losses import ROLLOUT, trains_actor
from preflight.formulas.precision import precision_of
from preflight.formulas.sharding import held_tensors, wrap_units
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import ALWAYS, MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.units import MIB, ceil_div, format_gib
from preflight.versions.boundary import OLDEST
from preflight.versions.openrlhf import WAKES_IN_PARTS
from preflight.versions.trl_online import SERVES_ENGINE
from preflight.versions.verl import FILLS_BUCKETS

SOURCE = "vllm/v1/worker/utils.py request_memory, gpu_worker.py determine_available_memory (0.33.0)"
SYNC_SOURCE = "trl/generation/vllm_generation.py:360-480 _iter_named_params, sync_weights (1.16.0)"
BUCKET = f"{ROLLOUT}.checkpoint_engine.update_weights_bucket_megabytes"
BUCKET_MIB = 2048
AWAKE = frozenset({Moment.WEIGHT_SYNC, Moment.ROLLOUT})


@hookimpl
def preflight_memory_terms(
    plan: LaunchPlan, model: ModelSpec, device: DeviceSpec | None
) -> Iterable[MemoryTerm]:
    """Price an engine on the ranks' cards, and the weights on their way to it."""
    generation = generation_of(plan)
    if generation is None or generation.engine != "vllm":
        return
    gathered = _gathered(plan, model)
    if gathered:
        yield MemoryTerm(
            "policy's parameters on their way to the engine",
            gathered,
            frozenset({Moment.WEIGHT_SYNC}),
            f"{gathered:,}",
            SYNC_SOURCE,
        )
    if not has_engine(plan):
        return
    if trains_actor(plan) and FILLS_BUCKETS.holds_in(plan.versions):
        said = plan.trainer_facts.value(BUCKET, BUCKET_MIB)
        size = said if isinstance(said, int) else BUCKET_MIB
        yield MemoryTerm(
            "buffer of weights on their way to the engine",
            size * MIB,
            frozenset({Moment.WEIGHT_SYNC}),
            f"{size:,} MiB",
            FILLS_BUCKETS.evidence,
        )
    engine = engine_bytes(plan, model, device)
    degree = generation.tensor_parallel_degree
    divided = f" over {degree} ranks" if degree > 1 else ""
    yield MemoryTerm(
        "inference engine: weights",
        engine.weights,
        AWAKE if generation.sleep else ALWAYS | {Moment.PREPARE},
        f"{model.num_params:,} parameters in 16 bits{divided}",
        SOURCE,
    )
    cache = engine.resident - engine.weights
    awake = frozenset({Moment.ROLLOUT})
    if places_groups(plan) and not WAKES_IN_PARTS.holds_in(plan.versions, OLDEST):
        awake = AWAKE
    if cache and device is not None:
        yield MemoryTerm(
            "inference engine: keys and values",
            cache,
            awake if generation.sleep else ALWAYS | {Moment.PREPARE},
            f"vllm_gpu_memory_utilization x {format_gib(device.capacity_bytes)} = {engine.asked:,}"
            f" - {engine.weights:,} of weights - {engine.working:,}",
            SOURCE,
        )
    yield MemoryTerm(
        "inference engine: a forward",
        engine.working,
        frozenset({Moment.ROLLOUT}),
        f"{engine.working:,}: 4,096 tokens, and logits to draw from",
        SOURCE,
    )


def _gathered(plan: LaunchPlan, model: ModelSpec) -> int:
    """Return what a rank has whole while weights are synchronized, beside its shards."""
    precision = precision_of(plan, model)
    held = held_tensors(plan, model)
    if places_groups(plan):
        # one parameter at a time, gathered, and copied where the engine is on the card
        largest = precision.bytes_of("compute") * max(each.tensor.num_params for each in held)
        return largest * ((plan.engine == "zero3") + has_engine(plan))
    if plan.engine == "zero3":
        size = precision.bytes_of("compute")
        of_older = plan.trainer == "trl" and not SERVES_ENGINE.holds_in(plan.versions)
        if plan.adapter is not None or is_of_swift(plan) or of_older:
            return size * sum(each.count * each.tensor.num_params for each in held)
    elif trains_actor(plan) and plan.is_fsdp and plan.shard_degree > 1:
        generation = generation_of(plan)
        size = precision.bytes_of("trainable" if plan.adapter is None else "frozen")
        whole = size * sum(each.count * each.tensor.num_params for each in held)
        if plan.adapter is not None:
            gathers = generation is None or generation.gathers_parameters
            return whole if gathers else size * wrap_units(plan, model).layer
        copied = ceil_div(whole, plan.shard_degree) if plan.engine == "fsdp1" else 0
        return copied + 3 * size * max(each.tensor.num_params for each in held)
    elif plan.engine == "fsdp2" and plan.shard_degree > 1:
        size = precision.bytes_of("trainable" if plan.adapter is None else "frozen")
    elif plan.engine == "fsdp1" and plan.shard_degree > 1:
        units = wrap_units(plan, model)
        return precision.bytes_of("trainable") * max(units.root, units.layer)
    else:
        return 0
    tensors = sorted(each.tensor.num_params for each in held)
    return size * sum(tensors[-2:])
