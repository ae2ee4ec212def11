"""What reentrant checkpointing holds under FSDP: the output it recomputes, and what hooks of frozen units keep."""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.layers.checkpointing import is_reentrant, recomputes_wrapped_layers
from preflight.formulas.layers.layer_costs import layer_costs
from preflight.formulas.precision import precision_of
from preflight.formulas.segments import SOURCE as SEGMENTS_SOURCE
from preflight.formulas.segments import mlp_block_bytes, rests_of_blocks
from preflight.formulas.sharding import num_tokens, wrap_units
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import Level, MemoryTerm, Moment
from preflight.model import ModelSpec

LAYERS = (Moment.LAST_LAYER_BACKWARD, Moment.FIRST_LAYER_BACKWARD)
END = (Moment.FIRST_LAYER_BACKWARD, Moment.EMBEDDING_BACKWARD)


@hookimpl
def preflight_memory_terms(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price what reentrant checkpointing holds under FSDP."""
    if not plan.is_fsdp or (plan.shard_degree == 1 and plan.mixed_precision == "no"):
        return
    yield from _recomputed_output(plan, model)
    if plan.engine == "fsdp1" and not wrap_units(plan, model).whole:
        yield from _held_by_hooks(plan, model)


def _recomputed_output(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price the output that reentrant checkpointing holds while it runs the layer's backward."""
    layers = [unit for unit in model.layers if unit.layer is not None]
    if not is_reentrant(plan) or not layers:
        return
    precision = precision_of(plan, model)
    width = max(layer_costs(plan, model, unit, precision).residual for unit in layers)
    tokens = num_tokens(plan)
    yield MemoryTerm(
        "output of the recomputed layer",
        tokens * width,
        frozenset(LAYERS),
        f"{tokens:,} tokens x {width:,}: reentrant checkpointing",
        "torch/utils/checkpoint.py CheckpointFunction.backward (2.13)",
    )


def _held_by_hooks(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price what frozen units keep of reentrant checkpointing until the end of backward.

    A unit whose flat parameter is frozen reshards from a hook on its inputs
    (_register_post_backward_reshard_only_hook). The reentrant kind, around the wrapper, gives each layer
    a detached leaf as its input; the hook's closure holds the leaf's AccumulateGrad node, and that node the leaf: a cycle
    that no garbage collector sees, until _finalize_params removes the hook. With the leaf stay the
    layer's input and the gradient in it. Other inputs are no leaves.
    """
    if plan.adapter is None or plan.offload_activations != "none":
        return
    if not recomputes_wrapped_layers(plan):
        return
    precision = precision_of(plan, model)
    layers = [unit for unit in model.layers if unit.layer is not None]
    if not layers:
        return
    widths = [layer_costs(plan, model, unit, precision).residual for unit in layers]
    inputs = sum(unit.count * width for unit, width in zip(layers, widths, strict=True))
    tokens = num_tokens(plan)
    for name, per_token in (
        ("layer inputs held by hooks of frozen units", inputs),
        ("gradients of layer inputs, held by the same hooks", inputs - max(widths)),
    ):
        yield MemoryTerm(
            name,
            tokens * per_token,
            frozenset(END),
            f"{tokens:,} tokens x {per_token:,}: reentrant checkpointing, frozen layers",
            "torch/distributed/fsdp/_runtime_utils.py:1473, torch/autograd/graph.py:578 (2.13)",
        )
    if plan.expandable_segments:
        return
    rests = rests_of_blocks(
        tokens * mlp_block_bytes(plan, model, precision),
        tokens * max(widths),
        2 * sum(unit.count for unit in layers) - 1,
    )
    if rests is not None:
        yield MemoryTerm(
            "rests of blocks that held inputs and gradients lie in",
            rests.num_bytes,
            frozenset(END),
            rests.formula,
            SEGMENTS_SOURCE,
            Level.RESERVED,
        )
