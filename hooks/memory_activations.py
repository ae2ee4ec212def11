"""Activations: what decoder layers keep for backward, with and without checkpointing, and what one needs in passing."""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.adapters.adapters import recorded_layers
from preflight.formulas.layers.attention_tensors import has_bool_mask, mask_bytes
from preflight.formulas.layers.beside_layers import behind_bytes, shared_bytes
from preflight.formulas.layers.layer_bytes import LayerCosts
from preflight.formulas.layers.layer_costs import layer_costs
from preflight.formulas.objective import forwards_at_once, num_sequences, of_one_forward
from preflight.formulas.offloaded_activations import bytes_in_flight, bytes_left
from preflight.formulas.precision import Precision, gradient_element_bytes, precision_of
from preflight.formulas.sharding import held_tensors, num_tokens
from preflight.formulas.tower_sizes import attended_rows
from preflight.formulas.user_loop import KEEPS_GRAPH, has_one_gradient
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import ALL_SAVED, LAYER_BACKWARD, MemoryTerm, Moment
from preflight.model import ModelSpec, ModelUnit
from preflight.units import ceil_div
from preflight.values import replace

TRACED_SOURCE = "preflight/formulas/costs: traces of transformers 5.24"
Costs = list[tuple[ModelUnit, LayerCosts]]
LAYER_SOURCE = (
    "preflight/formulas/layers/layer_costs.py: transformers 5.24 modelling code, saved-tensor hooks"
)


@hookimpl
def preflight_memory_terms(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price saved activations, the layer in backward and the autocast cache."""
    tokens = num_tokens(plan)
    layers = recorded_layers(plan, model)
    if not tokens or not layers:
        return
    precision = precision_of(plan, model)
    costs = [(kept, layer_costs(plan, model, unit, precision)) for unit, kept in layers]
    shared = shared_bytes(plan, model, precision)
    if plan.offload_activations == "cpu" and plan.activation_checkpointing == "none":
        costs = [(unit, _offloaded(plan, model, unit, precision, cost)) for unit, cost in costs]
    yield from _saved(plan, model, costs, tokens, shared)
    if plan.trainer in KEEPS_GRAPH:
        yield from _read_before(plan, costs, tokens)
    one = of_one_forward(plan)
    if is_traced(plan, costs) and one is not plan:
        of_one = [(kept, layer_costs(one, model, unit, precision)) for unit, kept in layers]
        beside = shared_bytes(one, model, precision)
        yield from _worst_moments(one, model, precision, of_one, beside)
    elif is_traced(plan, costs):
        yield from _worst_moments(plan, model, precision, costs, shared)
    else:
        yield from _passing(plan, costs, num_tokens(one))
        if plan.optimizer_in_backward and not plan.is_fsdp:
            yield _stepped_with(plan, model, precision)
        if model.has_both_stacks and plan.adapter is None:
            yield _words_of_decoder(model, precision)
    yield from _mask(plan, model, mask_bytes(plan, model, precision, tokens))
    if shared is not None:
        yield from _copied(costs, forwards_at_once(plan))
    elif precision.autocast:
        yield from _autocast_cache(plan, model, precision)
    unpacks = plan.base_quantization is not None and (
        shared is None or plan.base_quantization.scheme == "int8"
    )
    if unpacks:
        yield from _dequantized(plan, model, precision)


def _offloaded(
    plan: LaunchPlan, model: ModelSpec, unit: ModelUnit, precision: Precision, cost: LayerCosts
) -> LayerCosts:
    """Return a layer's costs where what it saves goes to the host: what stays, and what is under way."""
    left = min(cost.saved, bytes_left(plan, model, unit, precision) + cost.held)
    under_way = bytes_in_flight(plan, unit, precision, cost.saved - left)
    under_way += ceil_div(cost.copied_bytes, num_tokens(plan))
    return replace(
        cost,
        saved=left,
        copied_bytes=0,
        forward_transient=cost.forward_transient + under_way,
        backward_transient=cost.backward_transient + under_way,
    )


def is_traced(plan: LaunchPlan, costs: Costs) -> bool:
    """Tell whether traces say what a layer needs at its worst moments, the gradients it makes included.

    Sharded engines treat gradients in ways of their own, which their hooks price.
    """
    return (
        plan.engine in ("single", "ddp")
        and plan.activation_checkpointing in ("none", "full")
        and plan.offload_activations == "none"
        and not plan.torch_compile
        and all(cost.traced_backward_bytes is not None for _, cost in costs)
    )


def _worst_moments(
    plan: LaunchPlan,
    model: ModelSpec,
    precision: Precision,
    costs: Costs,
    shared: dict[str, int] | None,
) -> Iterable[MemoryTerm]:
    """What a layer needs on top of all that is saved, at the peaks of its forward and backward."""
    tokens = num_tokens(plan)
    checkpointed = plan.activation_checkpointing == "full"

    def kept_by(cost: LayerCosts) -> int:
        kept = tokens * (cost.residual if checkpointed else cost.saved)
        return kept + cost.copied_bytes + cost.copied_in_forward_bytes

    def kept_at_backward(cost: LayerCosts) -> int:
        return kept_by(cost) - cost.copied_in_forward_bytes

    def gradients_of(unit: ModelUnit) -> int:
        if has_one_gradient(plan):
            return 0
        return sum(
            gradient_element_bytes(plan, precision, held.tensor) * held.tensor.num_params
            for held in held_tensors(plan, model)
            if held.unit.tensors is unit.tensors and held.trains
        )

    words = sum(unit.count * gradients_of(unit) for unit in model.units if unit.role == "embedding")
    forward, last, first, held = 0, 0, 0, 0
    for unit, cost in costs:
        assert cost.traced_forward_bytes is not None
        assert cost.traced_backward_bytes is not None
        kept, made = kept_by(cost), gradients_of(unit)
        # in a layer's forward and in its backward, later layers of other kinds keep nothing; at the backward of the
        # lowest layer of its kind, those below it keep all and have made no gradients
        later = [
            (sum(place > max(unit.places, default=-1) for place in other.places), other, other_cost)
            for other, other_cost in costs
            if other is not unit and (unit.places or not unit.count)
        ]
        kept_later = sum(count * kept_by(other_cost) for count, _, other_cost in later)
        if not unit.count:  # run without a graph, before anything is kept
            forward = max(forward, tokens * cost.forward_checkpointed - kept_later)
            continue
        gone = sum(count * other_cost.copied_in_forward_bytes for count, _, other_cost in later)
        made_later = sum(count * gradients_of(other) for count, other, _ in later)
        forward = max(forward, cost.traced_forward_bytes - kept - kept_later)
        behind = behind_bytes(plan, model, unit, precision)
        if model.facts.get("hears") and unit.layer is not None and unit.layer.kind == "encoder":
            behind += words  # a decoder's own are done before an encoder of sound begins
        last = max(last, cost.traced_backward_bytes + behind - (kept_later - gone) + made_later)
        lowest = cost.traced_backward_bytes + kept_at_backward(cost) - made
        for other, other_cost in costs:
            num_below = sum(place < min(unit.places, default=0) for place in other.places)
            lowest += num_below * (kept_at_backward(other_cost) - gradients_of(other))
        is_cross = unit.layer is not None and unit.layer.attention_kind == "cross"
        if is_cross and not checkpointed:  # what layers above have added to the gradient of images
            rows = num_sequences(plan) * attended_rows(plan, model)
            lowest += precision.bytes_of("compute") * rows * model.hidden_size
        if shared is not None:
            lowest += shared["backward"] + held
            if unit is costs[0][0] and unit in model.layers:
                # what layers above hold on to, as Gemma 4's last ones do to keys that they made again, is there too
                held = max(0, shared["first"] - made - lowest)
                lowest = shared["first"] - made
        first = max(first, lowest)
    for name, num_bytes, moment in (
        ("activations, passing through a layer", forward, Moment.FORWARD),
        ("gradients in the last layer", last, Moment.LAST_LAYER_BACKWARD),
        ("activations and gradients in the first layer", first, Moment.FIRST_LAYER_BACKWARD),
    ):
        yield MemoryTerm(
            name,
            max(0, num_bytes),
            frozenset({moment}),
            f"{max(0, num_bytes):,} for {tokens:,} tokens",
            TRACED_SOURCE,
        )


def _passing(plan: LaunchPlan, costs: Costs, tokens: int) -> Iterable[MemoryTerm]:
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
        LAYER_BACKWARD,
        f"{tokens:,} tokens x {worst.backward_transient:,}",
        LAYER_SOURCE,
    )


def _stepped_with(plan: LaunchPlan, model: ModelSpec, precision: Precision) -> MemoryTerm:
    """The gradients of a layer that are there at once: of its largest matrix, and of all that a compiled layer hands back."""
    found = dict[int, list[int]]()
    for held in held_tensors(plan, model):
        if held.trains and held.unit.role == "layer":
            size = gradient_element_bytes(plan, precision, held.tensor)
            found.setdefault(id(held.unit), []).append(size * held.tensor.num_params)
    at_once = sum if plan.torch_compile else max
    num_bytes = max((at_once(each) for each in found.values()), default=0)
    return MemoryTerm(
        "gradients of a layer, until they are stepped with",
        num_bytes,
        LAYER_BACKWARD,
        f"{num_bytes:,}",
        "torch/csrc/autograd/functions/accumulate_grad.cpp (2.13): hooks run behind each",
    )


def _words_of_decoder(model: ModelSpec, precision: Precision) -> MemoryTerm:
    """The decoder's share of the gradient of the words, whole until the encoder's is there too: both use one table."""
    num_bytes = precision.bytes_of("compute") * model.embedding_params
    return MemoryTerm(
        "gradient of the words, of the decoder alone",
        num_bytes,
        frozenset({Moment.FIRST_LAYER_BACKWARD}),
        f"{model.embedding_params:,} x {precision.bytes_of('compute')}",
        "torch/csrc/autograd/input_buffer.cpp (2.13): gradients of one parameter wait for each other",
    )


def _beside_layers(shared: dict[str, int], least: int) -> Iterable[MemoryTerm]:
    """Inputs, tables, masks, the last norm: what is alive beside layers, by point of the step."""
    for point, (label, moments) in POINTS.items():
        num_bytes = shared[point] - least
        if point == "embedding":  # the layers' activations are gone
            num_bytes = max(0, shared[point])
        yield MemoryTerm(
            f"beside the layers, {label}",
            num_bytes,
            frozenset(moments),
            f"{num_bytes:,}",
            TRACED_SOURCE,
        )


POINTS = {
    "forward": ("forward", (Moment.FORWARD,)),
    "loss": ("loss", (Moment.LOSS_FORWARD,)),
    "loss_backward": ("loss backward", (Moment.LOSS_BACKWARD,)),
    "head": ("head backward", (Moment.HEAD_BACKWARD,)),
    "backward": ("backward", (Moment.LAST_LAYER_BACKWARD,)),
    "embedding": ("embedding backward", (Moment.EMBEDDING_BACKWARD,)),
}
"""Point in a family's file -> what it is called and when that is."""


def _saved(
    plan: LaunchPlan, model: ModelSpec, costs: Costs, tokens: int, shared: dict[str, int] | None
) -> Iterable[MemoryTerm]:
    least = 0
    if shared is not None:
        # what layers hand on to each other is counted in each; the last one's is handed to the norm
        least = min(0, *(shared[point] for point in POINTS if point != "embedding"))
        yield from _beside_layers(shared, least)
    mode = plan.activation_checkpointing
    one = max(cost.saved for _, cost in costs)
    if mode == "none":
        total = sum(unit.count * cost.saved for unit, cost in costs)
        compiled = ", compiled" if plan.torch_compile else ""
        is_offloaded = plan.offload_activations == "cpu"
        yield MemoryTerm(
            "activations that offloading leaves"
            if is_offloaded
            else "activations saved by the layers",
            max(0, tokens * total + least),
            ALL_SAVED,
            f"{tokens:,} tokens x {total:,} ({model.num_layers} layers{compiled})",
            LAYER_SOURCE,
        )
        if is_traced(plan, costs):
            return
        yield MemoryTerm(
            "activations of the first layer",
            tokens * one,
            frozenset({Moment.FIRST_LAYER_BACKWARD}),
            f"{tokens:,} tokens x {one:,}",
            LAYER_SOURCE,
        )
        return
    if mode == "selective_op":
        total = sum(unit.count * cost.kept(mode) for unit, cost in costs)
        label = "activations kept by selective checkpointing"
    elif mode == "selective_every_2":
        total = sum(unit.count * (cost.saved + cost.residual) for unit, cost in costs) // 2
        label = "activations, every second layer checkpointed"
    else:
        total = sum(unit.count * cost.kept(mode) for unit, cost in costs)
        held = any(cost.held for _, cost in costs)
        label = (
            f"layer inputs kept by checkpointing{', and what packed layers read' if held else ''}"
        )
    offloaded = plan.offload_activations == "cpu"
    if offloaded:
        total = max(cost.residual for _, cost in costs) * 2  # the one in use and the one in flight
        total += sum(unit.count * cost.held for unit, cost in costs)
        label += ", in flight to the host"
    yield MemoryTerm(
        label,
        max(0, tokens * total + least),
        ALL_SAVED,
        f"{tokens:,} tokens x {total:,}" + ("" if offloaded else f" ({model.num_layers} layers)"),
        "torch/utils/checkpoint.py: the input of each checkpointed layer",
    )
    if is_traced(plan, costs):
        return
    again = max(cost.copied_again_bytes for _, cost in costs)
    for name, num_bytes, formula in (
        ("activations of one recomputed layer", tokens * one, f"{tokens:,} tokens x {one:,}"),
        ("copies of weights in a recomputed layer", again, f"{again:,}"),
    ):
        if not num_bytes:
            continue
        yield MemoryTerm(
            name,
            num_bytes,
            LAYER_BACKWARD,
            formula,
            LAYER_SOURCE,
        )


def _read_before(plan: LaunchPlan, costs: Costs, tokens: int) -> Iterable[MemoryTerm]:
    """What packed layers read in the step before: nodes that are done let go of saved tensors, and not of attributes."""
    held = tokens * sum(unit.count * cost.held for unit, cost in costs)
    if held:
        yield MemoryTerm(
            "what packed layers read in the step before",
            held,
            CACHED,
            f"{held:,}, until the loss is made again",
            "bitsandbytes/autograd/_functions.py ctx.tensors (0.39 to 0.50.2), torch/csrc/autograd/python_function.cpp",
            from_second_step=plan.gradient_accumulation_steps == 1,
            least_bytes=None if plan.trainer == "litgpt" else 0,  # a loop may let go of its loss
        )


def _copied(costs: Costs, forwards: int) -> Iterable[MemoryTerm]:
    """Copies of weights in the compute dtype: autocast's, which are cached to its end, and what backward keeps of them."""
    kept = forwards * sum(unit.count * cost.copied_bytes for unit, cost in costs)
    gone = sum(unit.count * cost.copied_in_forward_bytes for unit, cost in costs)
    for name, num_bytes, moments in (
        ("copies of weights that backward needs", kept, ALL_SAVED),
        ("autocast copies of weights", gone, CACHED),
    ):
        if num_bytes:
            yield MemoryTerm(name, num_bytes, moments, f"{num_bytes:,}", TRACED_SOURCE)


CACHED = frozenset({Moment.FORWARD, Moment.LOSS_FORWARD})


def _mask(plan: LaunchPlan, model: ModelSpec, num_bytes: int) -> Iterable[MemoryTerm]:
    """Made before the layers; checkpoints keep it, and so do kernels that read it as it is."""
    if not num_bytes:
        return
    moments = frozenset({Moment.FORWARD})
    is_saved = plan.attention == "sdpa" and not has_bool_mask(plan, model)
    if plan.activation_checkpointing != "none" or is_saved:
        moments = ALL_SAVED | {Moment.FIRST_LAYER_BACKWARD}
    yield MemoryTerm(
        "attention mask",
        num_bytes,
        moments,
        f"{num_bytes:,}",
        "transformers/masking_utils.py (5.24.0); modeling_llama.py _update_causal_mask (4.48.1)",
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
        2 * cast * forwards_at_once(plan),
        frozenset(moments),
        f"{cast:,} x 2 x {forwards_at_once(plan)}",
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
