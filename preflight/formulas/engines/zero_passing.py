"""What ZeRO has on the device in passing: gradients in buckets, and the parameters that stage 3 gathers."""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.adapters.adapters import adapter_tensors
from preflight.formulas.engines.beside_gathers import freed_by_mlp, saved_before_last
from preflight.formulas.engines.deepspeed_rules import (
    ahead_of_adapter,
    bucket_elements,
    knows_what_comes,
    largest_module,
    live_in_forward,
    live_parameters,
    overlaps,
    prefetch_elements,
    reduces_in_backward,
    tail_elements,
    used_again,
)
from preflight.formulas.engines.rollouts import between_micro_steps, states_there
from preflight.formulas.layers.chunked_heads import skips_head
from preflight.formulas.layers.heads import scores
from preflight.formulas.layers.layer_pieces import keeps_product
from preflight.formulas.objective import reference_of
from preflight.launch import LaunchPlan
from preflight.memory import LAYER_BACKWARD, STEP_MOMENTS, MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.units import ceil_div

BACKWARD = frozenset(
    {Moment.LAST_LAYER_BACKWARD, Moment.FIRST_LAYER_BACKWARD, Moment.EMBEDDING_BACKWARD}
)
STAGE_1_2 = "deepspeed/runtime/zero/stage_1_and_2.py (0.19.8)"
STAGE_3 = "deepspeed/runtime/zero/stage3.py, partition_parameters.py (0.19.8)"
COORDINATOR = STAGE_3 + ", partitioned_param_coordinator.py"


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
    if scores(
        plan, model
    ):  # of a head without logits, the first gradient comes before the last norm's
        moments |= {Moment.LOSS_BACKWARD}
    early = size * bucket * buffers
    if _is_of_attention(plan, model):  # the first gradient is of the last layer's attention
        moments -= {Moment.HEAD_BACKWARD, Moment.LAST_LAYER_BACKWARD}
        early -= min(early, max(0, freed_by_mlp(plan, model)))
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
    if not moments & {Moment.LAST_LAYER_BACKWARD}:
        yield MemoryTerm(
            "gradient buckets (ipg), beyond what the MLP has freed",
            early,
            frozenset({Moment.LAST_LAYER_BACKWARD}),
            f"{early:,}",
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


def _is_of_attention(plan: LaunchPlan, model: ModelSpec) -> bool:
    """Tell whether nothing trains but adapters on attention, whose gradients come when the last layer's MLP has gone back."""
    layer = model.largest_layer
    if plan.adapter is None or layer is None or scores(plan, model):
        return False
    in_layers = all(unit.role == "layer" for unit, _ in adapter_tensors(plan, model))
    return in_layers and not keeps_product(plan, model, layer)


def gathered(plan: LaunchPlan, model: ModelSpec, size: int) -> Iterable[MemoryTerm]:
    """Price the parameters that stage 3 has whole for a moment, `size` bytes each."""
    layer = model.largest_layer
    largest = max((t.num_params for t in layer.tensors), default=0) if layer else 0
    yield from (_foreseen if knows_what_comes(plan) else _by_module)(plan, model, size)
    if plan.adapter is None:
        yield MemoryTerm(
            "unsharded gradient of a parameter",
            size * largest,
            LAYER_BACKWARD,
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


def _by_module(plan: LaunchPlan, model: ModelSpec, size: int) -> Iterable[MemoryTerm]:
    """Price them where no backward is recorded: each module's own until it has computed, and ahead of it in the forward alone.

    The first layers' forward has the most of them, and the last layer's all that is saved; a loss that reads the head's
    weight itself never fetches it ahead.
    """
    module, tail = largest_module(model), tail_elements(model)
    layer = model.largest_layer.num_params if model.largest_layer else 0
    last = layer + (0 if skips_head(plan) else tail)
    if reference_of(plan) == "adapter_off":
        most = ahead_of_adapter(plan, model)
    else:
        most = live_in_forward(plan, model, skips_head(plan))
    first = ceil_div(max(0, size * most - saved_before_last(plan, model)), size)
    for name, elements, moments in (
        ("gathered parameters", min(max(first, last), model.num_params), {Moment.FORWARD}),
        ("gathered head", tail, {Moment.LOSS_FORWARD, Moment.LOSS_BACKWARD}),
        (
            "gathered head or module",
            max(tail, module),
            {Moment.HEAD_BACKWARD, Moment.LAST_LAYER_BACKWARD},
        ),
        ("gathered module", module, {Moment.FIRST_LAYER_BACKWARD}),
    ):
        yield MemoryTerm(
            name, size * elements, frozenset(moments), f"{elements:,} x {size}", COORDINATOR
        )


def _foreseen(plan: LaunchPlan, model: ModelSpec, size: int) -> Iterable[MemoryTerm]:
    """Price them where a forward is recorded with its backward, and what is used again soon is kept."""
    live, layer = live_parameters(plan, model), model.largest_layer
    yield MemoryTerm(
        "gathered parameters",
        size * live,
        frozenset(STEP_MOMENTS) - {Moment.FIRST_LAYER_BACKWARD, Moment.EMBEDDING_BACKWARD},
        f"{live:,} x {size}: kept for reuse, or fetched ahead, and the module at work",
        COORDINATOR,
    )
    ahead = {Moment.FORWARD}
    if live < used_again(plan, model):  # else all of it is there when the loss begins
        ahead.add(Moment.LOSS_FORWARD)
    yield _prefetch(plan, model, size, live, frozenset(ahead))
    # by then everything behind it was used for the last time; a frozen embedding is not used again
    embedding = model.embedding_params if plan.adapter is None else 0
    last = min(live, (layer.num_params if layer else 0) + embedding)
    yield MemoryTerm(
        "gathered first layer and what is ahead",
        size * last,
        frozenset({Moment.FIRST_LAYER_BACKWARD}),
        f"{last:,} x {size}",
        COORDINATOR,
    )


def _prefetch(
    plan: LaunchPlan, model: ModelSpec, size: int, live: int, moments: frozenset[Moment]
) -> MemoryTerm:
    """Price what comes ahead in one piece, of which parameters are then copies."""
    fetched = min(prefetch_elements(plan, model), live)
    return MemoryTerm(
        "prefetch, gathered before it is cut into parameters",
        size * fetched,
        moments,
        f"{fetched:,} x {size}",
        "deepspeed/runtime/zero/partition_parameters.py AllGatherCoalescedHandle.wait (0.19.8)",
    )
