"""Model states, buckets and gathered parameters of one rank under DeepSpeed ZeRO.

P parameters, W ranks of the shard group, b reduce_bucket_size. The states are measured on 2 and 4
real processes by tests/formulas/test_deepspeed_states.py (DeepSpeed 0.19):

    ZeRO-0   2P + 12P, fp32 gradients at the step
    ZeRO-1   2P + 12P/W, gradients whole between micro steps
    ZeRO-2   2P + 12P/W, gradients 2P/W
    ZeRO-3   (2P + 2P + 12P)/W and what is gathered
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.engines.deepspeed_rules import bucket_elements, largest_sub_group
from preflight.formulas.engines.rollouts import between_micro_steps, states_there
from preflight.formulas.engines.zero_passing import (
    STAGE_1_2,
    STAGE_3,
    buckets,
    gathered,
    reduces_late,
)
from preflight.formulas.optimizers import paged_bytes, state_bytes, step_copies_of_flat
from preflight.formulas.precision import Precision, precision_of
from preflight.formulas.sharding import HeldTensor, held_tensors, local_elements, quantized_bytes
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import ALWAYS, STEP_MOMENTS, MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.units import ceil_div, dtype_bytes
from preflight.values import NamedTuple
from preflight.versions.deepspeed import MOVES_GRADIENTS

STEP = frozenset({Moment.OPTIMIZER_STEP})
GROWN = frozenset({Moment.FIRST_LAYER_BACKWARD, Moment.EMBEDDING_BACKWARD, Moment.OPTIMIZER_STEP})


class _Elements(NamedTuple):
    """What a rank holds of the model, in elements unless a name says bytes."""

    frozen: int
    """Its shard under stage 3, else whole; as `trainable`."""
    trainable: int
    whole_trainable: int
    """Of all ranks together."""
    packed_bytes: int
    """Of quantized weights, on all ranks together."""
    states_bytes: int
    """Of its share of the optimizer's states, but for what is paged out of the device."""


@hookimpl
def preflight_memory_terms(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price what ZeRO keeps, and what it needs in passing."""
    stage = plan.zero_stage
    if stage is None:
        return
    precision = precision_of(plan, model)
    size, held = precision.bytes_of("compute"), _held(plan, model, precision)
    yield from _parameters(plan, precision, held)
    yield from _second_shards(plan, model, size)
    if not held.whole_trainable:
        return
    whole = held.whole_trainable
    partition = ceil_div(whole, plan.shard_degree if stage else 1)
    yield from _states(plan, precision, held, partition)
    on_gpu = plan.offload_optimizer == "none"
    if not on_gpu and stage < 3:
        largest = max(h.tensor.num_params for h in held_tensors(plan, model) if h.trains)
        yield MemoryTerm(
            "gradient on its way to the host",
            size * largest,
            ALWAYS,
            f"{largest:,} x {size}: a buffer for the largest parameter",
            STAGE_1_2 + ":659",
        )
    yield from _gradients(plan, model, precision.bytes_of("gradient"), stage, whole, partition)
    yield from buckets(plan, model, size, stage, whole)
    if stage == 3:
        yield from gathered(plan, model, size)
    master = dtype_bytes(precision.master or "fp32")
    yield from _step(plan, model, size, master, stage, partition, on_gpu)


def _second_shards(plan: LaunchPlan, model: ModelSpec, size: int) -> Iterable[MemoryTerm]:
    """Price the copy of every parameter that ZeRO++ divides over the ranks of a node alone (`zero_hpz_partition_size`).

    It is there from the first partition to the end of the step, which drops that of what trains; the next backward makes
    it again.
    """
    settings = plan.deepspeed
    ranks = 1 if settings is None else settings.zero_hpz_partition_size
    if plan.zero_stage != 3 or ranks < 2 or plan.offload_params != "none":
        return
    for trains, moments in ((True, ALWAYS - {Moment.EVALUATION}), (False, ALWAYS)):
        num_bytes = sum(
            held.count * _weight_bytes(plan, held, size)
            for held in held_tensors(plan, model)
            if held.trains is trains
        )
        if num_bytes:
            yield MemoryTerm(
                "second shards inside a node" if trains else "second shards of frozen weights",
                ceil_div(num_bytes, ranks),
                moments,
                f"{num_bytes:,} bytes of weights in 1/{ranks} shards (zero_hpz_partition_size)",
                STAGE_3 + ":1912",
            )


def _weight_bytes(plan: LaunchPlan, held: HeldTensor, size: int) -> int:
    num_params = held.tensor.num_params
    return quantized_bytes(plan, num_params) if held.quantized else size * num_params


def _held(plan: LaunchPlan, model: ModelSpec, precision: Precision) -> _Elements:
    """Add up the model's tensors as the ranks hold them."""
    frozen = trainable = whole_trainable = packed_bytes = states_bytes = 0
    for held in held_tensors(plan, model):
        num_params = held.tensor.num_params
        if held.quantized:
            packed_bytes += held.count * quantized_bytes(plan, num_params)
        elif held.trains:
            trainable += held.count * local_elements(plan, held)
            whole_trainable += held.count * num_params
            states = state_bytes(plan, precision, held.tensor, num_params)
            states -= paged_bytes(plan, held.tensor, num_params)
            share = plan.shard_degree if plan.zero_stage else 1
            states_bytes += held.count * ceil_div(states, share)
        else:
            frozen += held.count * local_elements(plan, held)
    return _Elements(frozen, trainable, whole_trainable, packed_bytes, states_bytes)


def _parameters(plan: LaunchPlan, precision: Precision, held: _Elements) -> Iterable[MemoryTerm]:
    """Price the weights: plain ones unless stage 3 keeps them on the host, and packed ones."""
    size, is_third = precision.bytes_of("compute"), plan.zero_stage == 3
    share = plan.shard_degree if is_third else 1
    if plan.offload_params == "none" or not is_third:
        elements = held.frozen + held.trainable
        shards = f" in 1/{share} shards" if is_third else ""
        yield MemoryTerm(
            "parameters",
            size * elements,
            ALWAYS,
            f"{elements:,} x {size} ({precision.compute}){shards}",
            STAGE_3 if is_third else STAGE_1_2,
        )
    if held.packed_bytes:
        shares = f" / {share}" if share > 1 else ", a full copy per rank"
        yield MemoryTerm(
            "parameters, quantized",
            ceil_div(held.packed_bytes, share),
            ALWAYS,
            f"{held.packed_bytes:,} bytes packed{shares}",
            "bitsandbytes/functional.py, 0.50.2",
        )


def _states(
    plan: LaunchPlan, precision: Precision, held: _Elements, partition: int
) -> Iterable[MemoryTerm]:
    """Price the rank's master copy and optimizer states, `partition` elements of them, unless they are on the host."""
    if plan.offload_optimizer != "none":
        return
    master = dtype_bytes(precision.master or "fp32")
    source = STAGE_3 if plan.zero_stage == 3 else STAGE_1_2
    share = plan.shard_degree if plan.zero_stage else 1
    yield MemoryTerm(
        "master parameters",
        master * partition,
        states_there(plan),
        f"{held.whole_trainable:,} / {share} x {master} ({precision.master})",
        source,
    )
    yield MemoryTerm(
        "optimizer states",
        held.states_bytes,
        states_there(plan),
        f"{plan.optimizer}: {held.states_bytes / max(1, partition):.4g} bytes x {partition:,}",
        source,
        from_second_step=True,
    )


def _gradients(
    plan: LaunchPlan, model: ModelSpec, size: int, stage: int, whole: int, partition: int
) -> Iterable[MemoryTerm]:
    """Price the gradients, `size` bytes an element: `whole` of them on all ranks, `partition` in a rank's share."""
    source = STAGE_3 if stage == 3 else STAGE_1_2
    several = plan.gradient_accumulation_steps > 1
    if plan.adapter is None:
        head = model.head_params or model.embedding_params
        yield MemoryTerm(
            "gradient of the head",
            size * head,
            frozenset({Moment.HEAD_BACKWARD}),
            f"{head:,} x {size}, before it is reduced",
            source,
        )
        if stage == 2 or (stage == 1 and not reduces_late(plan)):
            yield MemoryTerm(
                "dense gradient of the embedding",
                size * model.embedding_params,
                frozenset({Moment.EMBEDDING_BACKWARD}),
                f"{model.embedding_params:,} x {size}, before it is reduced",
                source,
            )
    if plan.offload_optimizer != "none" and stage >= 2:
        return  # gradients go to pinned host buffers as they are reduced
    if stage == 0 or reduces_late(plan):
        moments = frozenset(STEP_MOMENTS) | between_micro_steps(plan) if several else GROWN - STEP
        yield MemoryTerm(
            "gradients",
            size * whole,
            moments | STEP if stage == 0 else moments,
            f"{whole:,} x {size}, whole on every rank",
            source,
        )
        if stage == 1:
            # copied bucket by bucket into the partition, and freed, when the backward pass is over
            elements = max(partition, min(bucket_elements(plan, model), whole))
            yield MemoryTerm(
                "averaged gradients",
                size * elements,
                frozenset({Moment.EMBEDDING_BACKWARD}),
                f"{elements:,} x {size}: the larger of {whole:,} / {plan.shard_degree} and the bucket",
                source,
            )
        return
    if stage == 3:
        # the partition's gradient buffer is allocated once, at init
        yield MemoryTerm(
            "gradients",
            size * partition,
            states_there(plan) if MOVES_GRADIENTS.holds_in(plan.versions) else ALWAYS,
            f"{whole:,} / {plan.shard_degree} x {size}",
            source,
        )
        return
    yield MemoryTerm(
        "gradients",
        size * partition,
        GROWN - STEP,
        f"{whole:,} / {plan.shard_degree} x {size}",
        source,
    )
    if several:
        yield MemoryTerm(
            "gradients of earlier micro steps",
            size * partition,
            frozenset(STEP_MOMENTS) | between_micro_steps(plan),
            f"{whole:,} / {plan.shard_degree} x {size}: added to after each backward pass",
            STAGE_1_2 + " get_flat_partition",
        )


def _step(
    plan: LaunchPlan,
    model: ModelSpec,
    size: int,
    master: int,
    stage: int,
    partition: int,
    on_gpu: bool,
) -> Iterable[MemoryTerm]:
    """Price what the step of an optimizer on the device copies and casts; `size` and `master` are bytes an element."""
    if not on_gpu:
        return
    # gradients are flattened in their own dtype, then cast to the masters': nothing is, where both are the same
    cast = 0 if size == master else size
    foreach = master * step_copies_of_flat(plan)
    if stage == 3:
        group = min(partition, largest_sub_group(plan, model))
        # gradients in the masters' dtype, and the larger of the flat copy and foreach's temporaries (8 bytes
        # with torch's AdamW in fp32 forced to foreach on CPU ranks, 6 fused).
        each = master + max(cast, foreach)
        yield MemoryTerm(
            "optimizer step of a sub group",
            each * group,
            STEP,
            f"{each} x {group:,}",
            STAGE_3 + ":2683",
        )
        return
    # the averaged ones go before the optimizer steps
    each = max(size + cast + master, master + foreach) if stage else master + foreach
    words = "fp32" if master == 4 else f"{master}-byte"
    yield MemoryTerm(
        f"{words} gradients for the step",
        each * partition,
        STEP,
        f"{each} x {partition:,}: averaged, flat and {words}, or {words} and {foreach} of foreach",
        STAGE_1_2 + ":3101",
    )
