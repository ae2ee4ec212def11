"""What FSDP holds while it reduces gradients: the inputs of reduce-scatter, and blocks that a later one cannot use.

    FSDP2 before torch 2.6   input made on the stream that reduces   _composable/fsdp/_fsdp_collectives.py:131 (2.3.1),
                                                                    :170 (2.4.1), :325 (2.5.1)
          since              on the default stream                   fsdp/_fully_shard/_fsdp_collectives.py:371 (2.6.0)
    FSDP1                    the flat gradient; where the reduce     _runtime_utils.py _post_backward_hook (2.3.1 to 2.13)
                             dtype is another, cast on that stream

FSDP1 marks the flat gradient, and NCCL the cast one, as read on another stream. The host is at a layer's
backward when the device is at the one before it (the rate limiter waits for the one before that), so that
one's gradient is free on the host and still a block of its own: two of each. FSDP2 waits for the copy instead.
The units of a step are reduced in the order tail, layers, embedding or root, and a block that one left is too
small for a larger one.
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.precision import precision_of
from preflight.formulas.sharding import WrapUnits, reduces_beside, wrap_units
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import LAYER_BACKWARD, Level, MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.units import dtype_bytes

END = frozenset({Moment.FIRST_LAYER_BACKWARD, Moment.EMBEDDING_BACKWARD})
LAST = frozenset({Moment.EMBEDDING_BACKWARD})
REDUCE = "reduce_scatter"
FSDP1_SOURCE = "torch/distributed/fsdp/_runtime_utils.py _post_backward_hook, _reduce_grad (2.13)"
FSDP2_SOURCE = "torch/distributed/fsdp/_fully_shard/_fsdp_collectives.py foreach_reduce (2.13)"
OLD_FSDP2_SOURCE = "torch/distributed/_composable/fsdp/_fsdp_collectives.py:170 (2.4.1)"


@hookimpl
def preflight_memory_terms(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price what the reduction of gradients under FSDP takes."""
    mixed = plan.mixed_precision != "no"
    if not plan.is_fsdp or (plan.shard_degree == 1 and not mixed):
        return
    trains = wrap_units(plan, model, trains_only=True, padded=True)
    if trains.whole:
        return
    precision = precision_of(plan, model)
    size = precision.bytes_of("compute") if mixed else precision.bytes_of("frozen")
    reduce = dtype_bytes(plan.reduce_dtype) if plan.reduce_dtype else size
    accumulates = plan.gradient_accumulation_steps > 1 and not plan.sync_each_batch
    if plan.engine == "fsdp2":
        yield from _fsdp2(plan, trains, reduce, accumulates, model)
    elif not accumulates:
        yield from _fsdp1(trains, size, reduce)


def _fsdp2(
    plan: LaunchPlan, trains: WrapUnits, reduce: int, accumulates: bool, model: ModelSpec
) -> Iterable[MemoryTerm]:
    beside = reduces_beside(plan)
    source = OLD_FSDP2_SOURCE if beside else FSDP2_SOURCE
    stream = REDUCE if beside else "default"
    tail = 0 if model.tied or accumulates else trains.tail
    layer = 0 if accumulates else trains.layer
    moments = frozenset({Moment.HEAD_BACKWARD, Moment.LAST_LAYER_BACKWARD})
    yield from _term("reduce-scatter input of the tail", reduce, tail, moments, source, stream)
    yield from _term("reduce-scatter input of a layer", reduce, layer, END, source, stream)
    yield from _while_the_one_before_goes_back(plan, model, reduce * layer, reduce * tail, stream)
    yield from _term(
        "reduce-scatter input of the root unit", reduce, trains.root, LAST, source, stream
    )
    if beside:
        if trains.embedding > layer:
            yield from _term(
                "reduce-scatter input of the embedding, beside a layer's that is too small",
                reduce,
                trains.embedding,
                LAST,
                source,
                stream,
                Level.RESERVED,
            )
        if tail < layer:
            yield from _too_small("the tail", reduce, tail, LAYER_BACKWARD | LAST, source)


def _while_the_one_before_goes_back(
    plan: LaunchPlan, model: ModelSpec, layer: int, tail: int, stream: str
) -> Iterable[MemoryTerm]:
    """Yield what is alive at the backward of the layer before the last beyond what is at that of the last: its reduce-scatter
    input is there and its shard of gradients, and the tail's input and what it kept are gone. Of two layers the one before
    is the first, which has a moment of its own."""
    if not layer or model.num_layers < 3:
        return
    from preflight.formulas.engines.beside_gathers import gradient_shard, kept_by_layer

    shard = gradient_shard(plan, model, wrap_units(plan, model, trains_only=True).layer)
    gone = kept_by_layer(plan, model) + tail
    if layer + shard > gone:
        yield MemoryTerm(
            "reduce-scatter input of the last layer while the one before goes back",
            layer + shard - gone,
            frozenset({Moment.LAST_LAYER_BACKWARD}),
            f"{layer:,} and {shard:,} of gradients, less {gone:,} that the last layer and the tail held",
            FSDP2_SOURCE,
            stream=stream,
        )


def _fsdp1(trains: WrapUnits, size: int, reduce: int) -> Iterable[MemoryTerm]:
    layer, root, source = trains.layer, trains.root, FSDP1_SOURCE
    yield from _term(
        "flat gradient of the layer before, still read by the stream that reduces",
        size,
        layer,
        LAYER_BACKWARD,
        source,
        level=Level.RESERVED,
    )
    if reduce == size:
        return
    cast = "flat gradient of {} in the reduce dtype"
    yield from _term(cast.format("a layer"), reduce, layer, LAYER_BACKWARD, source, REDUCE)
    yield from _term(cast.format("the root unit"), reduce, root, LAST, source, REDUCE)
    yield from _term(
        "flat gradient of the layer before in the reduce dtype, not reduced yet",
        reduce,
        layer,
        LAYER_BACKWARD,
        source,
        REDUCE,
        Level.RESERVED,
    )
    if root > layer:
        yield from _too_small("two layers", reduce, 2 * layer, LAST, source)


def _too_small(
    what: str, reduce: int, elements: int, moments: frozenset[Moment], source: str
) -> Iterable[MemoryTerm]:
    name = f"blocks of {what}, too small for what is reduced next"
    return _term(name, reduce, elements, moments, source, REDUCE, Level.RESERVED)


def _term(
    name: str,
    size: int,
    elements: int,
    moments: frozenset[Moment],
    source: str,
    stream: str = "default",
    level: Level = Level.ALLOCATED,
) -> Iterable[MemoryTerm]:
    if elements:
        yield MemoryTerm(
            name, size * elements, moments, f"{elements:,} x {size}", source, level, stream=stream
        )
