"""What FSDP1 holds in passing, moment by moment; its table is in hooks/memory_sharding.py."""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.engines.beside_gathers import (
    layer_backward_bytes,
    logits_bytes,
    passing_bytes,
)
from preflight.formulas.engines.fsdp_gathers import (
    BEFORE_LAYERS,
    EMBEDDING,
    FIRST_LAYER,
    GATHER,
    HEAD,
    LAST_LAYER,
    LAYERS,
    Gathers,
)
from preflight.formulas.layers.checkpointing import recomputes_wrapped_layers
from preflight.formulas.user_loop import HUGGING_FACE
from preflight.memory import STEP_MOMENTS, Level, MemoryTerm, Moment
from preflight.units import ceil_div


def fsdp1_terms(gathers: Gathers) -> Iterable[MemoryTerm]:
    """Yield what FSDP1 gathers for a step, and what it makes of its gradients."""
    plan, units, size, kept = gathers.plan, gathers.units, gathers.size, gathers.stay_gathered
    # the 16-bit copy of a shard, between cast and gather (_flat_param.py _use_low_precision_shard)
    shard = ceil_div(units.layer, plan.shard_degree)
    cast = size * shard if plan.mixed_precision != "no" else 0
    if units.root:
        name = "gathered root unit (embedding, norm, head)"
        yield gathers.term(name, units.root, STEP_MOMENTS, GATHER)
    if kept:
        yield gathers.term("gathered parameters kept to backward", kept, BEFORE_LAYERS)
        yield gathers.term("gathered first layer, still kept", units.layer, (FIRST_LAYER,))
    else:
        yield from _gathered_layers(gathers, cast)
    cast_forward = max(0, cast - passing_bytes(plan, gathers.model))
    if cast_forward:
        yield gathers.bytes(
            "shard in the compute dtype, until gathered",
            cast_forward,
            (Moment.FORWARD,),
            f"{units.layer:,} / {plan.shard_degree} x {size}, beyond what passes through the layer",
        )
    yield from _gradients(gathers)


def _gathered_layers(gathers: Gathers, cast: int) -> Iterable[MemoryTerm]:
    """Yield the layer at work, and those that are gathered before their turn."""
    plan, layer, size = gathers.plan, gathers.units.layer, gathers.size
    yield gathers.term("gathered layer", layer, (Moment.FORWARD, *LAYERS), GATHER)
    # a layer whose wrapper ran without a graph has no pre-backward hook before it is recomputed
    early = not recomputes_wrapped_layers(plan)
    prefetches = early and plan.backward_prefetch in (None, "backward_pre")
    # of the units in flight, an adapter's own are most: with them two layers are, prefetched or not
    waiting = (Moment.FORWARD,) if prefetches and plan.adapter else (Moment.FORWARD, *LAYERS)
    yield gathers.bytes(
        "gathered layer the host has not waited for",
        size * layer,
        waiting,
        f"{layer:,} x {size}: a freed one is not reused before the compute stream is past it",
        GATHER,
        Level.RESERVED,
        "torch/distributed/fsdp/_limiter_utils.py, _runtime_utils.py _unshard (2.13)",
    )
    if not prefetches:
        return
    # the root's pre-backward hook gathers the last layer, the last layer's the one before;
    # with an adapter's leaves as units of their own the root's gathers one of those
    moments = {Moment.LOSS_BACKWARD, HEAD, LAST_LAYER}
    if plan.trainer not in HUGGING_FACE:
        moments.remove(
            Moment.LOSS_BACKWARD
        )  # the root returns logits, and waits for their gradient
    alive = LAYERS if plan.adapter else moments
    yield gathers.term("gathered layer, prefetched", layer, alive, GATHER)
    if plan.adapter is not None:
        yield gathers.bytes(
            "shard of the next layer in the compute dtype, until gathered",
            max(0, cast - layer_backward_bytes(plan, gathers.model)),
            (LAST_LAYER,),
            f"{layer:,} / {plan.shard_degree} x {size}, beyond the layer's transients",
        )
    yield gathers.bytes(
        "next layer, gathered before the last one computes",
        max(0, size * layer + cast - logits_bytes(plan, gathers.model, size)),
        (HEAD,),
        f"{layer:,} x {size} + {cast:,}, beyond the gradient of the logits",
        GATHER,
    )


def _gradients(gathers: Gathers) -> Iterable[MemoryTerm]:
    """Yield gradients before they are reduced: autograd makes a parameter's, then the flat parameter's out of all of them."""
    of_layer, trained = gathers.layer_gradients(times=2), gathers.trains.root
    if of_layer.num_bytes:
        yield of_layer
    if trained:
        head = min(trained, gathers.model.head_params or gathers.model.embedding_params)
        yield gathers.term("unsharded gradient of the head", head, (HEAD, *LAYERS))
        name = "unsharded gradients of the root unit"
        yield gathers.term(name, trained, (EMBEDDING,), size=2 * gathers.size)
