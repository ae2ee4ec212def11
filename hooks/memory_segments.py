"""What native segments hold and cannot lend: rests beside kept layer inputs, and rounding of parameters' segments.

With full checkpointing every layer's input stays, and lies in a block that an activation of an earlier MLP left;
the rest of that block is too small for the next one. On traces of whole models replayed through the allocator
(tests/formulas/test_segments.py) this is what the closed form of preflight/formulas/allocator.py lacked.
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.layers.layer_costs import layer_costs
from preflight.formulas.precision import precision_of
from preflight.formulas.segments import (
    SOURCE,
    has_kept_inputs,
    mlp_block_bytes,
    own_segment_rest,
    rests_of_blocks,
)
from preflight.formulas.sharding import held_tensors, num_tokens, scale_bytes
from preflight.formulas.stored_bytes import local_bytes
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import ALWAYS, Level, MemoryTerm, Moment
from preflight.model import ModelSpec


@hookimpl
def preflight_memory_terms(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price what native segments leave over."""
    if plan.expandable_segments:
        return
    yield from _beside_inputs(plan, model)
    if plan.engine in ("single", "ddp"):
        yield from _rounding(plan, model)


def _beside_inputs(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    layers = [unit for unit in model.layers if has_kept_inputs(unit)]
    kept_here = plan.activation_checkpointing == "full" and plan.offload_activations == "none"
    tokens = num_tokens(plan)
    if plan.torch_compile:
        return  # Inductor lays out a layer's buffers itself
    if not layers or not kept_here or not tokens:
        return
    precision = precision_of(plan, model)
    width = max(layer_costs(plan, model, unit, precision).residual for unit in layers)
    rests = rests_of_blocks(
        tokens * mlp_block_bytes(plan, model, precision),
        tokens * width,
        sum(unit.count for unit in layers),
    )
    if rests is not None:
        yield MemoryTerm(
            "rests of blocks that layer inputs lie in",
            rests.num_bytes,
            frozenset({Moment.FORWARD}),
            rests.formula,
            SOURCE,
            Level.RESERVED,
        )


def _rounding(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    precision = precision_of(plan, model)
    rests = 0
    for held in held_tensors(plan, model):
        num_bytes = local_bytes(plan, precision, held)
        if held.quantized:  # scales are tensors of their own
            num_bytes -= scale_bytes(plan, held.tensor.num_params)
        rests += held.count * own_segment_rest(num_bytes)
    if rests:
        yield MemoryTerm(
            "segments of parameters, rounded up",
            rests,
            ALWAYS,
            f"{rests:,}: to 2 MiB, where a tensor is above 10 MiB",
            SOURCE,
            Level.RESERVED,
        )
