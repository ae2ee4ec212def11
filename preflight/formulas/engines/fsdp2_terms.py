"""What FSDP2 holds in passing, moment by moment; its table is in hooks/memory_sharding.py."""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.engines.beside_gathers import (
    gradient_shard,
    kept_by_layer,
    loss_forward_bytes,
    passing_bytes,
)
from preflight.formulas.engines.fsdp_gathers import (
    BEFORE_LAYERS,
    EMBEDDING,
    END,
    FIRST_LAYER,
    GATHER,
    HEAD,
    LAST_LAYER,
    LAYERS,
    Gathers,
)
from preflight.formulas.layers.chunked_heads import gathers_head_itself, is_head_left, skips_head
from preflight.formulas.precision import precision_of
from preflight.formulas.user_loop import HUGGING_FACE
from preflight.memory import STEP_MOMENTS, Level, MemoryTerm, Moment


def fsdp2_terms(gathers: Gathers) -> Iterable[MemoryTerm]:
    """Yield what FSDP2 gathers for a step, and what it makes of its gradients."""
    yield from _gathered(gathers)
    yield from _forward_buffers(gathers)
    if gathers.units.tail:
        yield from _tail(gathers)
    if not gathers.stay_gathered:
        yield from _gathered_at_the_end(gathers)
    yield from _gradients(gathers)


def _gathered(gathers: Gathers) -> Iterable[MemoryTerm]:
    """Yield units that stay gathered, or the layer at work with the buffer of the next."""
    units, kept = gathers.units, gathers.stay_gathered
    if kept:
        yield gathers.term("gathered parameters kept to backward", kept, BEFORE_LAYERS)
        yield gathers.term("gathered first layer, still kept", units.layer, (FIRST_LAYER,))
        yield gathers.term("gathered embedding, still kept", units.embedding, END)
    if units.root:
        yield gathers.term("gathered root unit", units.root, STEP_MOMENTS)
    if not kept:
        yield gathers.term("gathered layer", units.layer, (Moment.FORWARD, *LAYERS))
        # the root that has the head returns the loss too, or ends the unit of a head that never ran
        at_root = units.embedding_in_root and gathers.plan.trainer in HUGGING_FACE
        returns_loss = at_root or (units.tail and skips_head(gathers.plan))
        moments = {HEAD, LAST_LAYER, *((Moment.LOSS_BACKWARD,) if returns_loss else ())}
        yield gathers.term("gather buffer of the next layer", units.layer, moments, GATHER)


def _forward_buffers(gathers: Gathers) -> Iterable[MemoryTerm]:
    units, size = gathers.units, gathers.size
    layer = size * units.layer
    # two buffers at the copy-out, before the layer computes; one while its activations peak
    second = max(0, layer - passing_bytes(gathers.plan, gathers.model))
    yield gathers.bytes(
        "gather buffers, forward",
        layer + second,
        (Moment.FORWARD,),
        f"{units.layer:,} x {size} + {second:,}: a second one before the layer computes",
        GATHER,
    )
    # the first unit's buffer serves one layer in two, and lives until the next is copied out; another needs its own
    first = max(units.root, units.embedding, units.layer)
    yield gathers.bytes(
        "gather buffers, idle while the layer computes",
        max(0, size * first - second),
        (Moment.FORWARD,),
        f"({first:,} + {units.layer:,}) x {size} in the pool, less {layer + second:,} alive",
        GATHER,
        Level.RESERVED,
    )


def _tail(gathers: Gathers) -> Iterable[MemoryTerm]:
    """Yield norm and head, gathered for the loss; a tied head for as long as the embedding."""
    units, size = gathers.units, gathers.size
    loss = loss_forward_bytes(gathers.plan, gathers.model)
    is_apart = gathers_head_itself(gathers.plan, gathers.model)
    is_left = is_head_left(gathers.plan, gathers.model)
    if not is_apart and not is_left:
        yield gathers.term("gather buffer of the tail", units.tail, (Moment.LOSS_FORWARD,), GATHER)
    yield gathers.bytes(
        "gather buffer of the last layer, until the loss computes",
        0 if gathers.stay_gathered else max(0, size * units.layer - loss),
        (Moment.LOSS_FORWARD,),
        f"{units.layer:,} x {size} beyond {loss:,} of the loss, which comes after it",
        GATHER,
    )
    around_loss = (Moment.LOSS_FORWARD, Moment.LOSS_BACKWARD)
    alive = STEP_MOMENTS if gathers.model.tied or (is_left and not is_apart) else around_loss
    loaded = precision_of(gathers.plan, gathers.model).bytes_of("frozen") if is_apart else size
    yield gathers.term("gathered tail (norm, head)", units.tail, alive, size=loaded)
    if is_left and is_apart:  # of the steps of a rollout, the first
        rest = set(STEP_MOMENTS).difference(around_loss)
        yield gathers.term("gathered tail, as a rollout leaves it", units.tail, rest)


def _gathered_at_the_end(gathers: Gathers) -> Iterable[MemoryTerm]:
    """Yield what is gathered while the first layer and the embedding go back."""
    plan, model, size = gathers.plan, gathers.model, gathers.size
    layer, embedding = gathers.units.layer, gathers.units.embedding
    kept = kept_by_layer(plan, model)
    # gradients are counted whole; a layer's shard of them comes when its own backward is done
    to_come = 0 if gathers.accumulates else gradient_shard(plan, model, gathers.trains.layer)
    second = size * layer + kept - 2 * to_come if gathers.units.num_layers > 1 else 0
    waiting = max(0, size * embedding - to_come, second)
    gathered = min(waiting, size * max(embedding, layer))
    yield gathers.bytes(
        "gather buffer of the unit before",
        gathered,
        (FIRST_LAYER,),
        f"of {embedding:,} x {size}, of the embedding, and of {layer:,} x {size}, of the first layer while the second"
        " goes back, the one beside which more is alive",
        GATHER,
    )
    yield gathers.bytes(
        "kept by the first layer while the second goes back",
        waiting - gathered,
        (FIRST_LAYER,),
        f"{kept:,} and its buffer, less {2 * to_come:,} of gradients to come",
    )
    if embedding:
        yield gathers.term("gathered embedding, backward", embedding, (EMBEDDING,))


def _gradients(gathers: Gathers) -> Iterable[MemoryTerm]:
    """Yield gradients before they are reduced."""
    trains = gathers.trains
    tied = gathers.model.tied and gathers.units.tail > 0
    if trains.tail and tied and not gathers.accumulates:
        moments = (HEAD, *LAYERS, EMBEDDING)
        yield gathers.term("unsharded gradient of the tied head", trains.tail, moments)
    elif trains.tail and not tied:
        yield gathers.term("unsharded gradient of the tail", trains.tail, (HEAD,))
    of_layer = gathers.layer_gradients()
    if of_layer.num_bytes:
        yield of_layer
    dense = trains.embedding or (trains.tail if tied else 0)
    if dense:
        yield gathers.term("dense gradient of the embedding", dense, (EMBEDDING,))
    if trains.root:
        head = trains.root - trains.embedding_in_root
        yield gathers.term("unsharded gradient of the head", head, LAYERS)
        yield gathers.term("unsharded gradients of the root unit", trains.root, (EMBEDDING,))
