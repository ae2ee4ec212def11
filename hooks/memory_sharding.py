"""What FSDP holds in passing: gathered parameters, their buffers, unsharded gradients, reduce-scatter inputs.

Read from torch/distributed/fsdp (2.13) and from the allocations of `fully_shard` traced on fake
tensors; tests/formulas/test_sharding_transients.py traces it again. G is a decoder layer, H the tail
(final norm and head), E the embedding, c the bytes of the gathered dtype:

    FSDP2  forward           cG + 2cG     gathered layer; its buffer kept to the next copy-out, the prefetched one
           loss forward      cH + cH      the tail stays gathered; its buffer until the next gather
           loss backward     cH
           head backward     2cH + cG     weight gradient, reduce-scatter input; prefetched layer
           last layer        cH + 2cG     reduce-scatter input of the tail, gathered layer; prefetched one
           first layer       2cG + cE     gathered layer, reduce-scatter input; prefetched embedding
           embedding         2cE + cG     gathered embedding, its dense gradient, reduce-scatter input
    FSDP1  root unit (embedding, norm, head) gathered from the start of forward to the end of backward
           forward           cG           a second layer waits in the allocator for the compute stream
           loss backward     cG           prefetched by the root's pre-backward hook
           last layer        2cG + 2cG    gathered and prefetched; every gradient and the flat one
           embedding         2c(E + H)    the root's gradients and the flat one

tests/formulas/test_real_ranks.py counts FSDP1, FSDP2 and ZeRO on real processes.
In a layer's backward the gradients of its matrices appear while its activations go: what is counted
on top of all its activations is the larger of the last matrix's gradient and of what all gradients
exceed the freed activations by.
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.beside_gathers import (
    gradient_shard,
    kept_by_layer,
    layer_backward_bytes,
    layer_gradients,
    logits_bytes,
    loss_forward_bytes,
    passing_bytes,
)
from preflight.formulas.checkpointing import recomputes_wrapped_layers
from preflight.formulas.pipelines import kept_in_flight
from preflight.formulas.precision import precision_of
from preflight.formulas.sharding import WrapUnits, wrap_units, wraps_both_ends
from preflight.formulas.user_loop import HUGGING_FACE
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import STEP_MOMENTS, Level, MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.units import ceil_div, dtype_bytes

LAYERS = (Moment.LAST_LAYER_BACKWARD, Moment.FIRST_LAYER_BACKWARD)
BEFORE_LAYERS = (
    Moment.FORWARD,
    Moment.LOSS_FORWARD,
    Moment.LOSS_BACKWARD,
    Moment.HEAD_BACKWARD,
    Moment.LAST_LAYER_BACKWARD,
)
END = (Moment.FIRST_LAYER_BACKWARD, Moment.EMBEDDING_BACKWARD)
GATHER = "all_gather"
FSDP2_SOURCE = "torch/distributed/fsdp/_fully_shard/_fsdp_param_group.py (2.13)"
FSDP1_SOURCE = "torch/distributed/fsdp/_runtime_utils.py, _flat_param.py (2.13)"


@hookimpl
def preflight_memory_terms(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price the transients of FSDP."""
    if not plan.is_fsdp:
        return
    precision = precision_of(plan, model)
    mixed = plan.mixed_precision != "no"
    if plan.shard_degree == 1 and not mixed:
        return
    size = precision.bytes_of("compute") if mixed else precision.bytes_of("frozen")
    units = wrap_units(plan, model, padded=True)
    trains = wrap_units(plan, model, trains_only=True)
    reduce = dtype_bytes(plan.reduce_dtype) if plan.reduce_dtype else size
    accumulates = plan.gradient_accumulation_steps > 1 and not plan.sync_each_batch
    if units.whole:
        yield from _one_unit(size, reduce, units, trains)
    elif plan.pipeline is not None and plan.pipeline.rank is not None:
        yield from _pipelined(plan, model, units, trains, size, reduce)
    elif plan.engine == "fsdp2":
        gradients = layer_gradients(plan, model, size * trains.layer)
        yield from _fsdp2(plan, model, units, trains, size, gradients, accumulates)
    else:
        # autograd makes a parameter's gradient, then the flat parameter's out of all of them
        gradients = layer_gradients(plan, model, 2 * size * trains.layer)
        yield from _fsdp1(plan, model, units, trains, size, gradients)
    total = trains.layer * trains.num_layers + trains.embedding + trains.tail + trains.root
    if accumulates and total:
        yield _term(
            "gradients, unsharded between micro steps",
            reduce,  # to_accumulated_grad_if_needed (_fsdp_param.py)
            total,
            STEP_MOMENTS,
            "transformers/trainer.py:1904 (5.24.0), accelerate/accelerator.py:1166 (1.15.0): no_sync",
        )


def _term(
    name: str,
    size: int,
    elements: int,
    moments: Iterable[Moment],
    source: str,
    stream: str = "default",
) -> MemoryTerm:
    return MemoryTerm(
        name, size * elements, frozenset(moments), f"{elements:,} x {size}", source, stream=stream
    )


def _stays_gathered(plan: LaunchPlan, units: WrapUnits) -> int:
    """Return the elements that stay gathered from forward to backward."""
    if plan.engine == "fsdp1" and plan.shard_degree == 1:
        return 0  # NO_SHARD: the copies in the compute dtype are freed all the same
    if plan.reshard_after_forward is False:
        return units.layer * units.num_layers + units.embedding
    if plan.reshard_after_forward == "default" and plan.engine == "fsdp2":
        # torchtitan once resharded every block but the last
        return 0 if wraps_both_ends(plan) else units.layer
    return 0


def _one_unit(size: int, reduce: int, units: WrapUnits, trains: WrapUnits) -> Iterable[MemoryTerm]:
    """Nothing is wrapped: every parameter is gathered for the whole step."""
    source = f"{FSDP2_SOURCE}; {FSDP1_SOURCE}"
    yield _term("gathered parameters (one unit)", size, units.layer, STEP_MOMENTS, source)
    if trains.layer:
        yield _term("unsharded gradients (one unit)", size, trains.layer, END, source)
        yield _term(
            "reduce-scatter input (one unit)",
            reduce,
            trains.layer,
            (Moment.EMBEDDING_BACKWARD,),
            source,
        )


def _unsharded_gradients(num_bytes: int, size: int, trains: WrapUnits, source: str) -> MemoryTerm:
    """The gradients of one layer before they are reduced, as far as its activations leave them no room."""
    formula = f"beyond the layer's activations; all of them: {trains.layer:,} x {size}"
    name = "unsharded gradients of a layer"
    return MemoryTerm(name, num_bytes, frozenset(LAYERS), formula, source)


def _pipelined(
    plan: LaunchPlan, model: ModelSpec, units: WrapUnits, trains: WrapUnits, size: int, reduce: int
) -> Iterable[MemoryTerm]:
    """The stages of a rank stay gathered over all micro batches; their gradients are reduced after the last backward."""
    source = "torch/distributed/pipelining/stage.py backward_maybe_with_nosync, perform_reduce_grad (2.13)"
    whole = units.layer * units.num_layers + units.embedding + units.tail + units.root
    yield _term("gathered parameters of the stages", size, whole, STEP_MOMENTS, source)
    gradients = layer_gradients(plan, model, size * trains.layer)
    yield _unsharded_gradients(gradients, size, trains, source)
    if trains.tail:
        moments = (Moment.HEAD_BACKWARD,)
        yield _term("unsharded gradient of the tail", size, trains.tail, moments, source)
    largest = max(trains.layer, trains.embedding, trains.tail, trains.root)
    yield _term("dense gradient of the embedding", size, trains.embedding, END[1:], source)
    in_flight = kept_in_flight(plan, model, precision_of(plan, model)).late
    yield MemoryTerm(
        "reduce-scatter input of a unit",
        max(0, reduce * largest - in_flight),
        frozenset(END[1:]),
        f"{largest:,} x {reduce} beyond {in_flight:,} of micro batches, which are gone by then",
        source,
    )


def _fsdp2(
    plan: LaunchPlan,
    model: ModelSpec,
    units: WrapUnits,
    trains: WrapUnits,
    size: int,
    gradients: int,
    accumulates: bool,
) -> Iterable[MemoryTerm]:
    layer, tail, embedding = units.layer, units.tail, units.embedding
    tied = model.tied and tail > 0
    kept = _stays_gathered(plan, units)
    loss = loss_forward_bytes(plan, model)
    source = FSDP2_SOURCE
    if kept:
        yield _term("gathered parameters kept to backward", size, kept, BEFORE_LAYERS, source)
        moments: tuple[Moment, ...] = (Moment.FIRST_LAYER_BACKWARD,)
        yield _term("gathered first layer, still kept", size, layer, moments, source)
        name = "gathered embedding, still kept"
        yield _term(name, size, embedding, END, source)
    if units.root:
        yield _term("gathered root unit", size, units.root, STEP_MOMENTS, source)
    if not kept:
        moments = (Moment.FORWARD, *LAYERS)
        yield _term("gathered layer", size, layer, moments, source)
        moments = (Moment.HEAD_BACKWARD, Moment.LAST_LAYER_BACKWARD)
        if units.embedding_in_root and plan.trainer in HUGGING_FACE:
            moments += (Moment.LOSS_BACKWARD,)  # the root has the head and returns the loss
        yield _term("gather buffer of the next layer", size, layer, moments, source, GATHER)
    # two buffers at the copy-out, before the layer computes; one while its activations peak
    second = max(0, size * layer - passing_bytes(plan, model))
    yield MemoryTerm(
        "gather buffers, forward",
        size * layer + second,
        frozenset({Moment.FORWARD}),
        f"{layer:,} x {size} + {second:,}: a second one before the layer computes",
        source,
        stream=GATHER,
    )
    # the first unit's buffer serves one layer in two, and lives until the next is copied out; another needs its own
    first = max(units.root, embedding, layer)
    yield MemoryTerm(
        "gather buffers, idle while the layer computes",
        max(0, size * (first + layer) - size * layer - second),
        frozenset({Moment.FORWARD}),
        f"({first:,} + {layer:,}) x {size} in the pool, less {size * layer + second:,} alive",
        source,
        Level.RESERVED,
        stream=GATHER,
    )
    if tail:
        moments = (Moment.LOSS_FORWARD,)
        yield _term("gather buffer of the tail", size, tail, moments, source, GATHER)
        yield MemoryTerm(
            "gather buffer of the last layer, until the loss computes",
            0 if kept else max(0, size * layer - loss),
            frozenset(moments),
            f"{layer:,} x {size} beyond {loss:,} of the loss, which comes after it",
            source,
            stream=GATHER,
        )
        alive: tuple[Moment, ...] = (Moment.LOSS_FORWARD, Moment.LOSS_BACKWARD)
        if tied:
            alive = STEP_MOMENTS
        yield _term("gathered tail (norm, head)", size, tail, alive, source)
    if not kept:
        # gradients are counted whole; a layer's shard of them comes when its own backward is done
        to_come = 0 if accumulates else gradient_shard(plan, model, trains.layer)
        second = size * layer + kept_by_layer(plan, model) - 2 * to_come
        waiting = max(0, size * embedding - to_come, second if units.num_layers > 1 else 0)
        gathered = min(waiting, size * max(embedding, layer))
        moments = (Moment.FIRST_LAYER_BACKWARD,)
        yield MemoryTerm(
            "gather buffer of the unit before",
            gathered,
            frozenset(moments),
            f"of {embedding:,} x {size}, of the embedding, and of {layer:,} x {size}, of the first layer while the second"
            " goes back, the one beside which more is alive",
            source,
            stream=GATHER,
        )
        yield MemoryTerm(
            "kept by the first layer while the second goes back",
            waiting - gathered,
            frozenset(moments),
            f"{kept_by_layer(plan, model):,} and its buffer, less {2 * to_come:,} of gradients to come",
            source,
        )
    if embedding and not kept:
        moments = (Moment.EMBEDDING_BACKWARD,)
        yield _term("gathered embedding, backward", size, embedding, moments, source)
    if trains.tail and tied and not accumulates:
        yield _term(
            "unsharded gradient of the tied head",
            size,
            trains.tail,
            (Moment.HEAD_BACKWARD, *LAYERS, Moment.EMBEDDING_BACKWARD),
            source,
        )
    elif trains.tail and not tied:
        moments = (Moment.HEAD_BACKWARD,)
        yield _term("unsharded gradient of the tail", size, trains.tail, moments, source)
    if gradients:
        yield _unsharded_gradients(gradients, size, trains, source)
    dense = trains.embedding or (trains.tail if tied else 0)
    if dense:
        moments = (Moment.EMBEDDING_BACKWARD,)
        yield _term("dense gradient of the embedding", size, dense, moments, source)
    if trains.root:
        head = trains.root - trains.embedding_in_root
        yield _term("unsharded gradient of the head", size, head, LAYERS, source)
        moments = (Moment.EMBEDDING_BACKWARD,)
        yield _term("unsharded gradients of the root unit", size, trains.root, moments, source)


def _fsdp1(
    plan: LaunchPlan,
    model: ModelSpec,
    units: WrapUnits,
    trains: WrapUnits,
    size: int,
    gradients: int,
) -> Iterable[MemoryTerm]:
    layer, root, source = units.layer, units.root, FSDP1_SOURCE
    kept = _stays_gathered(plan, units)
    # the 16-bit copy of a shard, between cast and gather (_flat_param.py _use_low_precision_shard)
    cast = size * ceil_div(layer, plan.shard_degree) if plan.mixed_precision != "no" else 0
    if root:
        name = "gathered root unit (embedding, norm, head)"
        yield _term(name, size, root, STEP_MOMENTS, source, GATHER)
    if kept:
        yield _term("gathered parameters kept to backward", size, kept, BEFORE_LAYERS, source)
        moments: tuple[Moment, ...] = (Moment.FIRST_LAYER_BACKWARD,)
        yield _term("gathered first layer, still kept", size, layer, moments, source)
    else:
        moments = (Moment.FORWARD, *LAYERS)
        yield _term("gathered layer", size, layer, moments, source, GATHER)
        # a layer whose wrapper ran without a graph has no pre-backward hook before it is recomputed
        early = not recomputes_wrapped_layers(plan)
        prefetches = early and plan.backward_prefetch in (None, "backward_pre")
        # of the units in flight, an adapter's own are most: with them two layers are, prefetched or not
        waiting = (Moment.FORWARD,) if prefetches and plan.adapter else (Moment.FORWARD, *LAYERS)
        yield MemoryTerm(
            "gathered layer the host has not waited for",
            size * layer,
            frozenset(waiting),
            f"{layer:,} x {size}: a freed one is not reused before the compute stream is past it",
            "torch/distributed/fsdp/_limiter_utils.py, _runtime_utils.py _unshard (2.13)",
            Level.RESERVED,
            stream=GATHER,
        )
        if prefetches:
            # the root's pre-backward hook gathers the last layer, the last layer's the one before;
            # with an adapter's leaves as units of their own the root's gathers one of those
            moments = (Moment.LOSS_BACKWARD, Moment.HEAD_BACKWARD, Moment.LAST_LAYER_BACKWARD)
            if plan.trainer not in HUGGING_FACE:
                moments = moments[
                    1:
                ]  # the root returns logits and no loss: its hook waits for their gradient
            if plan.adapter is not None:
                moments = LAYERS
            yield _term("gathered layer, prefetched", size, layer, moments, source, GATHER)
            if plan.adapter is not None:
                yield MemoryTerm(
                    "shard of the next layer in the compute dtype, until gathered",
                    max(0, cast - layer_backward_bytes(plan, model)),
                    frozenset({Moment.LAST_LAYER_BACKWARD}),
                    f"{layer:,} / {plan.shard_degree} x {size}, beyond the layer's transients",
                    source,
                )
            yield MemoryTerm(
                "next layer, gathered before the last one computes",
                max(0, size * layer + cast - logits_bytes(plan, model, size)),
                frozenset({Moment.HEAD_BACKWARD}),
                f"{layer:,} x {size} + {cast:,}, beyond the gradient of the logits",
                source,
                stream=GATHER,
            )
    cast_forward = max(0, cast - passing_bytes(plan, model))
    if cast_forward:
        yield MemoryTerm(
            "shard in the compute dtype, until gathered",
            cast_forward,
            frozenset({Moment.FORWARD}),
            f"{layer:,} / {plan.shard_degree} x {size}, beyond what passes through the layer",
            source,
        )
    if gradients:
        yield MemoryTerm(
            "unsharded gradients of a layer",
            gradients,
            frozenset(LAYERS),
            f"beyond the layer's activations; 2 x {trains.layer:,} x {size}: "
            "each parameter's, and the flat one they are concatenated into",
            source,
        )
    if trains.root:
        moments = (Moment.HEAD_BACKWARD, *LAYERS)
        head = min(trains.root, model.head_params or model.embedding_params)
        yield _term("unsharded gradient of the head", size, head, moments, source)
        moments = (Moment.EMBEDDING_BACKWARD,)
        yield _term("unsharded gradients of the root unit", 2 * size, trains.root, moments, source)
