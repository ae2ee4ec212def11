"""What FSDP holds in passing: gathered parameters, their buffers, unsharded gradients, reduce-scatter inputs.

Read from torch/distributed/fsdp (2.13) and from the allocations of `fully_shard` traced on fake
tensors; tests/memory/test_sharding_transients.py traces it again. G is a decoder layer, H the tail
(final norm and head), E the embedding, c the bytes of the gathered dtype:

    FSDP2  forward           2cG + cG     gathered layer, its buffer kept to the next copy-out, the prefetched one
           loss forward      2cH          the tail stays gathered, its buffer until the next gather
           loss backward     cH
           last layer        cH + 2cG     reduce-scatter input of the tail, gathered layer, prefetched one
           first layer       cE + 2cG     prefetched embedding, gathered layer, reduce-scatter input
           embedding         2cE + cG     gathered embedding, its dense gradient, reduce-scatter input
           and cG of unsharded gradients in every layer's backward
    FSDP1  two layers in flight, and the root unit (embedding, norm, head) gathered from the
           start of forward to the end of backward
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import STEP_MOMENTS, MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.precision import precision_of
from preflight.sharding import WrapUnits, wrap_units
from preflight.units import dtype_bytes

BACKWARD_LAYERS = frozenset({Moment.LAST_LAYER_BACKWARD, Moment.FIRST_LAYER_BACKWARD})
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
    size = precision.bytes_of("compute") if mixed else precision.bytes_of("frozen")
    gathers = plan.shard_degree > 1 or mixed
    units, trains = wrap_units(plan, model), wrap_units(plan, model, trains_only=True)
    reduce = dtype_bytes(plan.reduce_dtype) if plan.reduce_dtype else size
    if not gathers:
        return
    if plan.engine == "fsdp2":
        yield from _fsdp2(plan, units, trains, size, reduce)
    else:
        yield from _fsdp1(plan, units, trains, size)
    total = _total(trains)
    if plan.gradient_accumulation_steps > 1 and not plan.sync_each_batch and total:
        yield MemoryTerm(
            "gradients, unsharded between micro steps",
            size * total,
            frozenset(STEP_MOMENTS),
            f"{total:,} x {size}: no_sync until the last micro step",
            "transformers/trainer.py:1904, accelerate/accelerator.py:1166 (5.24.0, 1.15.0)",
        )


def _total(units: WrapUnits) -> int:
    return units.layer * units.num_layers + units.embedding + units.tail + units.root


def _stays_gathered(plan: LaunchPlan, units: WrapUnits) -> int:
    """Elements of layers that stay gathered from forward to backward."""
    if plan.reshard_after_forward is False:
        return units.layer * units.num_layers
    if plan.reshard_after_forward == "default":
        return units.layer  # torchtitan reshards every block but the last
    return 0


def _fsdp2(
    plan: LaunchPlan, units: WrapUnits, trains: WrapUnits, size: int, reduce: int
) -> Iterable[MemoryTerm]:
    layer, tail, embedding = units.layer, units.tail, units.embedding
    head_tied = embedding == 0 and tail > 0 and not units.root
    if units.whole:
        yield _term("gathered parameters (one unit)", size * layer, STEP_MOMENTS, FSDP2_SOURCE, f"{layer:,} x {size}")
        yield _term(
            "unsharded gradients (one unit)",
            (size + reduce) * trains.layer,
            (Moment.FIRST_LAYER_BACKWARD, Moment.EMBEDDING_BACKWARD),
            FSDP2_SOURCE,
            f"{trains.layer:,} x ({size} + {reduce})",
        )
        return
    kept = _stays_gathered(plan, units)
    if kept:
        yield _term(
            "gathered parameters kept from forward to backward",
            size * kept,
            (
                Moment.FORWARD,
                Moment.LOSS_FORWARD,
                Moment.LOSS_BACKWARD,
                Moment.LAST_LAYER_BACKWARD,
            ),
            "reshard_after_forward is off",
            f"{kept:,} x {size}",
        )
    if units.root:
        yield _term("gathered root unit", size * units.root, STEP_MOMENTS, FSDP2_SOURCE, f"{units.root:,} x {size}")
    if not kept:
        yield _term("gathered layer, forward", size * layer, (Moment.FORWARD,), FSDP2_SOURCE, f"{layer:,} x {size}")
    yield _term("gather buffers of two layers, forward", 2 * size * layer, (Moment.FORWARD,), FSDP2_SOURCE, f"2 x {layer:,} x {size}", GATHER)
    if tail:
        yield _term("gathered tail (norm, head)", size * tail, (Moment.LOSS_FORWARD, Moment.LOSS_BACKWARD), FSDP2_SOURCE, f"{tail:,} x {size}")
        yield _term("gather buffer of the tail", size * tail, (Moment.LOSS_FORWARD,), FSDP2_SOURCE, f"{tail:,} x {size}", GATHER)
    if head_tied:
        yield _term("gathered tail (norm, head), other moments", size * tail, (Moment.FORWARD, *BACKWARD_LAYERS, Moment.EMBEDDING_BACKWARD), FSDP2_SOURCE, f"{tail:,} x {size}: tied to the embedding")
    if trains.tail and not head_tied:
        yield _term("reduce-scatter input of the tail", reduce * trains.tail, (Moment.LAST_LAYER_BACKWARD,), FSDP2_SOURCE, f"{trains.tail:,} x {reduce}")
    yield _term("gathered layer, last layer's backward", size * layer, (Moment.LAST_LAYER_BACKWARD,), FSDP2_SOURCE, f"{layer:,} x {size}")
    if not kept:
        yield _term("gather buffer of the next layer, backward", size * layer, (Moment.LAST_LAYER_BACKWARD,), FSDP2_SOURCE, f"{layer:,} x {size}", GATHER)
    yield _term("gathered layer, first layer's backward", size * layer, (Moment.FIRST_LAYER_BACKWARD,), FSDP2_SOURCE, f"{layer:,} x {size}")
    if trains.layer:
        yield _term("unsharded gradients of a layer", size * trains.layer, BACKWARD_LAYERS, FSDP2_SOURCE, f"{trains.layer:,} x {size}")
        yield _term("reduce-scatter input of a layer", reduce * trains.layer, (Moment.FIRST_LAYER_BACKWARD, Moment.EMBEDDING_BACKWARD), FSDP2_SOURCE, f"{trains.layer:,} x {reduce}")
    if embedding:
        yield _term("gather buffer of the embedding", size * embedding, (Moment.FIRST_LAYER_BACKWARD,), FSDP2_SOURCE, f"{embedding:,} x {size}", GATHER)
        yield _term("gathered embedding, backward", size * embedding, (Moment.EMBEDDING_BACKWARD,), FSDP2_SOURCE, f"{embedding:,} x {size}")
    dense = trains.embedding or (trains.tail if head_tied else 0)
    if dense:
        yield _term("dense gradient of the embedding", size * dense, (Moment.EMBEDDING_BACKWARD,), FSDP2_SOURCE, f"{dense:,} x {size}")
    if trains.root:
        yield _term("unsharded gradients of the root unit", (size + reduce) * trains.root, (Moment.EMBEDDING_BACKWARD,), FSDP2_SOURCE, f"{trains.root:,} x ({size} + {reduce})")


def _fsdp1(
    plan: LaunchPlan, units: WrapUnits, trains: WrapUnits, size: int
) -> Iterable[MemoryTerm]:
    layer, root = units.layer, units.root
    if units.whole:
        yield _term("gathered parameters (one unit)", size * layer, STEP_MOMENTS, FSDP1_SOURCE, f"{layer:,} x {size}")
        if trains.layer:
            yield _term("unsharded gradients (one unit)", 2 * size * trains.layer, (Moment.FIRST_LAYER_BACKWARD, Moment.EMBEDDING_BACKWARD), FSDP1_SOURCE, f"2 x {trains.layer:,} x {size}")
        return
    kept = _stays_gathered(plan, units)
    if root:
        yield _term("gathered root unit (embedding, norm, head)", size * root, STEP_MOMENTS, FSDP1_SOURCE, f"{root:,} x {size}", GATHER)
    if kept:
        yield _term("gathered parameters kept from forward to backward", size * kept, (Moment.FORWARD, Moment.LOSS_FORWARD, Moment.LOSS_BACKWARD, Moment.LAST_LAYER_BACKWARD), "reshard_after_forward is off", f"{kept:,} x {size}")
    yield _term("gathered layers in flight", 2 * size * layer, (Moment.FORWARD, *BACKWARD_LAYERS), FSDP1_SOURCE, f"2 x {layer:,} x {size} (limit_all_gathers)", GATHER)
    if trains.layer:
        yield _term("unsharded gradients of a layer", size * trains.layer, BACKWARD_LAYERS, FSDP1_SOURCE, f"{trains.layer:,} x {size}")
    if trains.root:
        yield _term("unsharded gradients of the root unit", size * trains.root, (*BACKWARD_LAYERS, Moment.EMBEDDING_BACKWARD), FSDP1_SOURCE, f"{trains.root:,} x {size}")


def _term(
    name: str,
    num_bytes: int,
    moments: Iterable[Moment],
    source: str,
    formula: str,
    stream: str = "default",
) -> MemoryTerm:
    return MemoryTerm(name, num_bytes, frozenset(moments), formula, source, stream=stream)
