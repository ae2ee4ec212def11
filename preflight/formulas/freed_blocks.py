"""Blocks that FSDP1 leaves in the caching allocator when it has sharded a model unit by unit.

Nothing empties the cache between wrapping and the first step, so the pool stays as large as it was, and of the blocks
that the last whole units lay in a step takes only those that its tensors fit into. What each unit allocates, in torch
2.2 and 2.13 alike (torch/distributed/fsdp/_init_utils.py _init_param_handle_from_module, _flat_param.py):

1. its tensors, moved to the device one by one;
2. where states are broadcast from rank 0 (`sync_module_states`), copies of them in buckets that close above 250 MiB,
   two at once (torch/csrc/distributed/c10d/comm.cpp broadcast_coalesced);
3. one flat parameter; then its own tensors go;
4. the shard; then the flat parameter goes.

After the first layer the next ones find all blocks that they ask for but that of their shard, so one layer and the
root tell what is left: on Llama 2 7B within a tenth of the replay of every layer (tests/formulas/test_freed_blocks.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from preflight.formulas.layers.layer_costs import layer_costs
from preflight.formulas.precision import load_dtype, precision_of
from preflight.formulas.segments import SMALL_REQUEST_BYTES, SOURCE
from preflight.formulas.sharding import held_tensors, num_tokens, packed_bytes, wrap_units
from preflight.formulas.user_loop import has_own_model_code
from preflight.launch import LaunchPlan
from preflight.memory import ALWAYS, Level, MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.units import MIB, ceil_div, dtype_bytes
from preflight.values import dataclass

UNIT_BY_UNIT = "torch/distributed/fsdp/_init_utils.py _init_param_handle_from_module (2.13)"
BUCKET_BYTES = 250 * MIB
"""PARAM_BROADCAST_BUCKET_SIZE of torch/distributed/fsdp/_init_utils.py."""
BUCKETS_AT_ONCE = 2


class _Segment:
    """Memory of one request to the driver, lent from its front; it is whole again once nothing is left in it."""

    def __init__(self, num_bytes: int) -> None:
        self.num_bytes = self.free_bytes = num_bytes
        self.num_lent = 0

    def lend(self, num_bytes: int) -> _Segment:
        self.free_bytes -= num_bytes
        self.num_lent += 1
        return self

    def take_back(self) -> None:
        self.num_lent -= 1
        if not self.num_lent:
            self.free_bytes = self.num_bytes


@dataclass(frozen=True)
class FreedBlocks:
    """Free blocks of the pool, in bytes each."""

    blocks: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        return sum(self.blocks)

    def smaller_than(self, tensor_bytes: int) -> int:
        """Return the bytes of all blocks that no tensor of this size fits into."""
        return sum(block for block in self.blocks if block < tensor_bytes)


def blocks_left_by_sharding(
    layer: Sequence[int], root: Sequence[int], degree: int, broadcasts: bool, keeps_shards: bool
) -> FreedBlocks:
    """Return the blocks that are free when a model is sharded.

    `layer`, `root`: bytes of every tensor of a layer's unit and of the unit around the layers, as they are loaded.
    `broadcasts`: rank 0 has the states, and the others get them. `keeps_shards`: shards stay on the device.
    """
    segments: list[_Segment] = []

    def lend(num_bytes: int) -> _Segment:
        fitting = [segment for segment in segments if segment.free_bytes >= num_bytes]
        if not fitting:
            segments.append(_Segment(num_bytes))
            fitting = segments[-1:]
        return min(fitting, key=lambda segment: segment.free_bytes).lend(num_bytes)

    for unit in (layer, root):
        large = [num_bytes for num_bytes in unit if num_bytes > SMALL_REQUEST_BYTES]
        if not large:
            continue
        own = [lend(num_bytes) for num_bytes in large]
        copies: list[_Segment] = []
        for bucket in _buckets(large) if broadcasts else ():
            copies.append(lend(bucket))
            if len(copies) == BUCKETS_AT_ONCE:
                copies.pop(0).take_back()
        for segment in copies:
            segment.take_back()
        flat = lend(sum(large))
        for segment in own:
            segment.take_back()
        if keeps_shards:
            lend(ceil_div(sum(large), degree))
        flat.take_back()
    return FreedBlocks(tuple(segment.free_bytes for segment in segments if segment.free_bytes))


def terms_left_by_sharding(
    plan: LaunchPlan, model: ModelSpec, held_bytes: int, peak_bytes: int
) -> Iterator[MemoryTerm]:
    """Yield what the pool holds beyond `held_bytes`, which are left of the `peak_bytes` alive while units are wrapped."""
    if plan.expandable_segments or has_own_model_code(plan) or wrap_units(plan, model).whole:
        return
    left = blocks_left_by_sharding(
        *_unit_tensors(plan, model),
        plan.shard_degree,
        plan.cpu_ram_efficient_loading is not False,
        plan.offload_params == "none",
    )
    precision = precision_of(plan, model)
    width = max(
        (layer_costs(plan, model, u, precision).residual for u in model.layers if u.layer),
        default=0,
    )
    too_small = left.smaller_than((num_tokens(plan) or 0) * width)
    formula = f"{len(left.blocks)} blocks, {left.num_bytes:,}"
    yield MemoryTerm(
        "free blocks of the units that were sharded",
        max(0, held_bytes + left.num_bytes - peak_bytes),
        frozenset({Moment.PREPARE}),
        f"{formula}, beside {held_bytes:,} of shards, less {peak_bytes:,} alive before",
        UNIT_BY_UNIT,
        Level.RESERVED,
    )
    yield MemoryTerm(
        "blocks that sharding left, too small for a step",
        too_small,
        ALWAYS,
        f"{formula}: those smaller than what passes from layer to layer",
        SOURCE,
        Level.RESERVED,
    )


def _unit_tensors(plan: LaunchPlan, model: ModelSpec) -> tuple[list[int], list[int]]:
    """Return the bytes of every tensor of the largest layer and of the root unit, adapters apart: each is a unit."""
    size = dtype_bytes(load_dtype(plan, model))
    layers: dict[str, list[int]] = {}
    root: list[int] = []
    for held in held_tensors(plan, model):
        if held.trains and plan.adapter is not None:
            continue
        elements = held.tensor.num_params
        num_bytes = packed_bytes(plan, elements) if held.quantized else size * elements
        is_layer = held.unit.role == "layer"
        own = layers.setdefault(held.unit.name, []) if is_layer else root
        own += [num_bytes] * (held.count // held.unit.count if is_layer else held.count)
    return max(layers.values(), key=sum, default=[]), root


def _buckets(tensors: Sequence[int]) -> Iterator[int]:
    """Yield the bytes of each bucket that tensors are broadcast in."""
    bucket = 0
    for num_bytes in tensors:
        bucket += num_bytes
        if bucket >= BUCKET_BYTES:
            yield bucket
            bucket = 0
    if bucket:
        yield bucket
