"""What ZeRO has on the device in passing: gradients in buckets, and the parameters that stage 3 gathers."""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.engines.deepspeed_rules import (
    bucket_elements,
    knows_what_comes,
    live_parameters,
    overlaps,
    prefetch_elements,
    reduces_in_backward,
)
from preflight.formulas.engines.rollouts import between_micro_steps, states_there
from preflight.launch import LaunchPlan
from preflight.memory import STEP_MOMENTS, MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.units import ceil_div

BACKWARD = frozenset(
    {Moment.LAST_LAYER_BACKWARD, Moment.FIRST_LAYER_BACKWARD, Moment.EMBEDDING_BACKWARD}
)
STAGE_1_2 = "deepspeed/runtime/zero/stage_1_and_2.py (0.19.8)"
STAGE_3 = "deepspeed/runtime/zero/stage3.py, partition_parameters.py (0.19.8)"


def reduces_late(plan: LaunchPlan) -> bool:
    """Tell whether stage 1 keeps whole gradients to the end of the backward pass and reduces them then."""
    return plan.zero_stage == 1 and (
        plan.gradient_accumulation_steps > 1 or not reduces_in_backward(plan)
    )


def buckets(
    plan: LaunchPlan, model: ModelSpec, size: int, stage: int, whole: int
) -> Iterable[MemoryTerm]:
    """Price gradients on their way to the ranks that keep them; `size` are the bytes of an element, `whole` all trained ones."""
    bucket = bucket_elements(plan, model)
    if stage == 0:
        return
    if stage == 3:
        yield MemoryTerm(
            "reduce bucket",
            size * bucket,
            states_there(plan),
            f"{bucket:,} x {size}, allocated at init",
            STAGE_3,
        )
        yield MemoryTerm(
            "reduce-scatter input",
            size * min(bucket, whole),
            BACKWARD,
            f"{min(bucket, whole):,} x {size}",
            STAGE_3,
        )
        return
    buffers = 2 if overlaps(plan) else 1
    late = reduces_late(plan)
    moments = BACKWARD | {Moment.HEAD_BACKWARD}
    if late:
        moments -= {Moment.EMBEDDING_BACKWARD}  # what is copied into it is freed
    if stage == 1 and plan.gradient_accumulation_steps > 1:
        moments = frozenset(STEP_MOMENTS) - {Moment.EMBEDDING_BACKWARD} | between_micro_steps(plan)
    yield MemoryTerm(
        "gradient buckets (ipg)",
        size * bucket * buffers,
        moments,
        f"{bucket:,} x {size} x {buffers}" + (" (overlap_comm)" if buffers == 2 else ""),
        STAGE_1_2 + ":3256",
    )
    if late and bucket <= ceil_div(whole, plan.shard_degree):
        return  # gradients of one rank's partition are contiguous and reduced in place
    yield MemoryTerm(
        "flattened bucket under reduction",
        size * min(bucket, whole),
        frozenset({Moment.EMBEDDING_BACKWARD}) if late else BACKWARD,
        f"{min(bucket, whole):,} x {size}",
        STAGE_1_2 + ":2359",
    )


def gathered(plan: LaunchPlan, model: ModelSpec, size: int) -> Iterable[MemoryTerm]:
    """Price the parameters that stage 3 has whole for a moment, `size` bytes each."""
    live = live_parameters(plan, model, knows_what_comes(plan))
    layer = model.largest_layer
    largest = max((t.num_params for t in layer.tensors), default=0) if layer else 0
    yield MemoryTerm(
        "gathered parameters",
        size * live,
        frozenset(STEP_MOMENTS) - {Moment.FIRST_LAYER_BACKWARD, Moment.EMBEDDING_BACKWARD},
        f"{live:,} x {size}: kept for reuse, current layer, prefetch",
        STAGE_3 + ", partitioned_param_coordinator.py",
    )
    fetched = min(prefetch_elements(plan, model), live)
    yield MemoryTerm(
        "prefetch, gathered before it is cut into parameters",
        size * fetched,
        frozenset({Moment.FORWARD, Moment.LOSS_FORWARD}),
        f"{fetched:,} x {size}",
        "deepspeed/runtime/zero/partition_parameters.py AllGatherCoalescedHandle.wait (0.19.8)",
    )
    # by then everything behind it was used for the last time; a frozen embedding is not prefetched
    prefetch = prefetch_elements(plan, model) if plan.adapter is None else 0
    last = min(live, (layer.num_params if layer else 0) + prefetch)
    yield MemoryTerm(
        "gathered first layer and prefetch",
        size * last,
        frozenset({Moment.FIRST_LAYER_BACKWARD}),
        f"{last:,} x {size}",
        STAGE_3 + ", partitioned_param_coordinator.py",
    )
    if plan.adapter is None:
        yield MemoryTerm(
            "unsharded gradient of a parameter",
            size * largest,
            frozenset({Moment.LAST_LAYER_BACKWARD, Moment.FIRST_LAYER_BACKWARD}),
            f"{largest:,} x {size}: copied into the bucket as soon as it is there",
            STAGE_3,
        )
        embedding = model.embedding_params
        if embedding:
            yield MemoryTerm(
                "embedding gathered and its dense gradient",
                2 * size * embedding,
                frozenset({Moment.EMBEDDING_BACKWARD}),
                f"2 x {embedding:,} x {size}",
                STAGE_3,
            )
