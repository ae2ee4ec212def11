"""Activations: what decoder layers keep for backward, with and without checkpointing, and what one needs in passing."""

from __future__ import annotations

from collections.abc import Iterable

from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.layer_costs import LayerCosts, layer_costs
from preflight.memory import MemoryTerm, Moment
from preflight.model import ModelSpec, ModelUnit
from preflight.precision import Precision, precision_of
from preflight.sharding import held_tensors, num_tokens

ALL_SAVED = frozenset(
    {
        Moment.FORWARD,
        Moment.LOSS_FORWARD,
        Moment.LOSS_BACKWARD,
        Moment.HEAD_BACKWARD,
        Moment.LAST_LAYER_BACKWARD,
    }
)
COMPILED_SHARE = 0.7
"""Of what eager layers save, under torch.compile: its min-cut partitioner recomputes pointwise work and saves
10 to 30 percent (torch/_functorch/partitioners.py); the upper end, so that a bound does not refuse what runs."""
LAYER_SOURCE = "preflight/layer_costs.py: transformers 5.24 modelling code, saved-tensor hooks"


@hookimpl
def preflight_memory_terms(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price saved activations, the layer in backward and the autocast cache."""
    tokens = num_tokens(plan)
    layers = [unit for unit in model.layers if unit.layer is not None]
    if not tokens or not layers:
        return
    precision = precision_of(plan, model)
    costs = [(unit, layer_costs(plan, model, unit, precision)) for unit in layers]
    yield from _saved(plan, model, costs, tokens)
    worst = max((cost for _, cost in costs), key=lambda cost: cost.saved + cost.backward_transient)
    passing = worst.forward_checkpointed
    if plan.activation_checkpointing in ("none", "selective_every_2"):
        passing = worst.forward_transient
    yield MemoryTerm(
        "activations, passing through a layer",
        tokens * passing,
        frozenset({Moment.FORWARD}),
        f"{tokens:,} tokens x {passing:,}",
        LAYER_SOURCE,
    )
    yield MemoryTerm(
        "gradients of activations in a layer",
        tokens * worst.backward_transient,
        frozenset({Moment.LAST_LAYER_BACKWARD, Moment.FIRST_LAYER_BACKWARD}),
        f"{tokens:,} tokens x {worst.backward_transient:,}",
        LAYER_SOURCE,
    )
    if precision.autocast:
        yield from _autocast_cache(plan, model, precision)
    if plan.base_quantization is not None:
        yield from _dequantized(plan, model, precision)


def _saved(
    plan: LaunchPlan,
    model: ModelSpec,
    costs: list[tuple[ModelUnit, LayerCosts]],
    tokens: int,
) -> Iterable[MemoryTerm]:
    mode = plan.activation_checkpointing
    one = max(cost.saved for _, cost in costs)
    if mode == "none":
        total = sum(unit.count * cost.saved for unit, cost in costs)
        compiled = ""
        if plan.torch_compile:
            total = int(total * COMPILED_SHARE)
            compiled = f", {COMPILED_SHARE} of eager"
        yield MemoryTerm(
            "activations saved by the layers",
            tokens * total,
            ALL_SAVED,
            f"{tokens:,} tokens x {total:,} ({model.num_layers} layers{compiled})",
            LAYER_SOURCE,
        )
        yield MemoryTerm(
            "activations of the first layer",
            tokens * one,
            frozenset({Moment.FIRST_LAYER_BACKWARD}),
            f"{tokens:,} tokens x {one:,}",
            LAYER_SOURCE,
        )
        return
    if mode == "selective_op":
        total = sum(unit.count * cost.selective for unit, cost in costs)
        label = "activations kept by selective checkpointing"
    elif mode == "selective_every_2":
        total = sum(unit.count * (cost.saved + cost.residual) for unit, cost in costs) // 2
        label = "activations, every second layer checkpointed"
    else:
        total = sum(unit.count * cost.residual for unit, cost in costs)
        label = "layer inputs kept by checkpointing"
    offloaded = plan.offload_activations == "cpu"
    if offloaded:
        total = max(cost.residual for _, cost in costs) * 2  # the one in use and the one in flight
        label += ", in flight to the host"
    yield MemoryTerm(
        label,
        tokens * total,
        ALL_SAVED,
        f"{tokens:,} tokens x {total:,}" + ("" if offloaded else f" ({model.num_layers} layers)"),
        "torch/utils/checkpoint.py: the input of each checkpointed layer",
    )
    yield MemoryTerm(
        "activations of one recomputed layer",
        tokens * one,
        frozenset({Moment.LAST_LAYER_BACKWARD, Moment.FIRST_LAYER_BACKWARD}),
        f"{tokens:,} tokens x {one:,}",
        LAYER_SOURCE,
    )


def _autocast_cache(
    plan: LaunchPlan, model: ModelSpec, precision: Precision
) -> Iterable[MemoryTerm]:
    """fp32 matrices are cast once and cached until the outermost autocast ends: the whole forward."""
    cast = 0
    for held in held_tensors(plan, model):
        wide = precision.trainable if held.trains else precision.frozen
        if wide == "fp32" and len(held.tensor.shape) >= 2 and held.unit.role != "embedding":
            cast += held.count * held.tensor.num_params
    if model.tied and precision.frozen == "fp32":
        cast += model.embedding_params
    if not cast:
        return
    moments = {Moment.FORWARD, Moment.LOSS_FORWARD}
    if plan.activation_checkpointing == "none":
        moments |= {Moment.LOSS_BACKWARD, Moment.HEAD_BACKWARD, Moment.LAST_LAYER_BACKWARD}
    yield MemoryTerm(
        "autocast copies of weights",
        2 * cast,
        frozenset(moments),
        f"{cast:,} x 2",
        "aten/src/ATen/autocast_mode.cpp cached_cast (2.13)",
    )


def _dequantized(plan: LaunchPlan, model: ModelSpec, precision: Precision) -> Iterable[MemoryTerm]:
    """bitsandbytes unpacks one weight at a time, forward and backward."""
    packed = [held.tensor.num_params for held in held_tensors(plan, model) if held.quantized]
    if not packed:
        return
    quantization = plan.base_quantization
    assert quantization is not None
    compute = quantization.compute_dtype or precision.compute
    size = 4 if compute == "fp32" else 2
    scales = 4 * (max(packed) // 64) if quantization.double_quant else 0
    yield MemoryTerm(
        "one weight unpacked",
        size * max(packed) + scales,
        frozenset({Moment.FORWARD, Moment.LAST_LAYER_BACKWARD, Moment.FIRST_LAYER_BACKWARD}),
        f"{max(packed):,} x {size} + scales {scales:,}",
        "bitsandbytes/autograd/_functions.py MatMul4Bit (0.50.2)",
    )
