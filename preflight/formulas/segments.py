"""What segments of the caching allocator cannot lend: rests of blocks, small tensors, and what rounding adds.

c10/cuda/CUDACachingAllocator.cpp (torch 2.13): a request above 10 MiB that no free block serves gets a segment of
its own, rounded up to 2 MiB; a block is lent whole or split, and what is left of one is free for smaller requests.
Expandable segments have neither. A request of up to 1 MiB comes from a pool of its own, whatever the segments are:
states of an adapter never move into blocks that activations left.
"""

from __future__ import annotations

from preflight.formulas.layers.layer_costs import layer_costs
from preflight.formulas.precision import Precision, precision_of
from preflight.formulas.sharding import held_tensors, local_elements
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec, ModelUnit
from preflight.units import MIB, ceil_div, round_up
from preflight.values import dataclass

SOURCE = "c10/cuda/CUDACachingAllocator.cpp get_free_block, alloc_size (torch 2.13)"
MIN_OWN_SEGMENT_BYTES = 10 * MIB
SEGMENT_STEP_BYTES = 2 * MIB
SMALL_REQUEST_BYTES = MIB
"""kMinLargeAlloc, kRoundLarge and kSmallSize of c10/core/AllocatorConfig.h."""
DEFAULT, SMALL_BLOCKS = "default", "default, small blocks"
"""Pools of the stream that computes; a term names its own as `stream`."""


@dataclass(frozen=True)
class Rests:
    """Blocks that tensors of one size lie in, and what is left of each."""

    num_blocks: int
    block_bytes: int
    fitting: int
    """Tensors in one block."""
    held_bytes: int

    @property
    def num_bytes(self) -> int:
        return self.num_blocks * (self.block_bytes - self.fitting * self.held_bytes)

    @property
    def formula(self) -> str:
        return (
            f"{self.num_blocks} blocks of {self.block_bytes:,},"
            f" {self.fitting} x {self.held_bytes:,} in each"
        )


def rests_of_blocks(block_bytes: int, held_bytes: int, num_held: int) -> Rests | None:
    """Return the rests of blocks that held tensors lie in, or None where there are none.

    The smallest free block that serves is the one that an activation of the MLP left: a whole number of held
    tensors lies in it, its rest is too small for one more, and the next layer's activation needs a new block.
    """
    fitting = block_bytes // held_bytes if held_bytes else 0
    if not fitting or block_bytes == fitting * held_bytes:
        return None
    return Rests(ceil_div(num_held, fitting), block_bytes, fitting, held_bytes)


def mlp_block_bytes(plan: LaunchPlan, model: ModelSpec, precision: Precision) -> int:
    """Return the bytes per token of the widest tensor that passes through a dense layer's MLP.

    A 4-bit linear returns its input's dtype (bitsandbytes/nn/modules.py Linear4bit.forward), which is fp32 where
    the norms are.
    """
    widest = 0
    for unit in model.layers:
        if unit.layer is None:
            continue
        size = precision.bytes_of("compute")
        is_wide = layer_costs(plan, model, unit, precision).residual >= 4 * unit.layer.hidden_size
        if plan.base_quantization is not None and is_wide:
            size = 4
        widest = max(widest, size * unit.layer.intermediate_size)
    return widest


def own_segment_rest(num_bytes: int) -> int:
    """Return what is left of the segment that a large tensor gets for itself."""
    if num_bytes < MIN_OWN_SEGMENT_BYTES:
        return 0
    return round_up(num_bytes, SEGMENT_STEP_BYTES) - num_bytes


def has_kept_inputs(unit: ModelUnit) -> bool:
    """Tell whether a layer's input, kept by a checkpoint, lies in blocks that its MLP left."""
    return unit.layer is not None and not unit.layer.num_experts


def pool_of_states(plan: LaunchPlan, model: ModelSpec) -> str:
    """Return the pool that optimizer states lie in: that of small blocks where most of their bytes are in tensors of
    up to 1 MiB, as an adapter's are."""
    size = precision_of(plan, model).bytes_of("optimizer_state")
    small = large = 0
    for held in held_tensors(plan, model):
        if held.trains:
            num_bytes = size * local_elements(plan, held)
            if num_bytes <= SMALL_REQUEST_BYTES:
                small += held.count * num_bytes
            else:
                large += held.count * num_bytes
    return SMALL_BLOCKS if small > large else DEFAULT
