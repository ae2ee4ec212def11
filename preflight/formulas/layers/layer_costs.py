"""What one decoder layer keeps for its backward and needs in passing: a family's own costs where they were derived."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.formulas.adapters.adaptations import ALL_LINEAR, MLP, place_of
from preflight.formulas.adapters.adapter_inputs import copied_of_experts
from preflight.formulas.adapters.dora import dora_backward_bytes, dora_passing_bytes
from preflight.formulas.adapters.other_adapters import kept_of_weights, passing_of_layer
from preflight.formulas.adapters.unpacked_experts import deltas_of, is_stack
from preflight.formulas.cost_tables import adaptation_of, has_own_release, method_of
from preflight.formulas.layers.adapter_shares import sizes_in_forms
from preflight.formulas.layers.attention_scores import at_scores, made_before_scores
from preflight.formulas.layers.layer_bytes import LayerCosts
from preflight.formulas.layers.layer_coefficients import has_own_scores, layer_forms, reference_of
from preflight.formulas.layers.layer_pieces import (
    has_state,
    keeps_product,
    layer_pieces,
    stream_bytes,
)
from preflight.formulas.layers.layer_sizes import bytes_of
from preflight.formulas.precision import Precision, is_quantized, precision_of
from preflight.formulas.tensor_parallel import divided_costs
from preflight.formulas.user_loop import has_one_gradient
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec, ModelUnit
from preflight.remembered import remembered
from preflight.units import ceil_div
from preflight.values import replace


@remembered
def layer_costs(
    plan: LaunchPlan, model: ModelSpec, unit: ModelUnit, precision: Precision
) -> LayerCosts:
    """Return the costs of one decoder layer on one rank."""
    costs = _whole_costs(plan, model, unit, precision)
    if plan.trainer == "torchtune" and not plan.torch_compile and not has_state(unit):
        from preflight.formulas.layers.tune_layers import as_torchtune_keeps  # no other's do

        costs = as_torchtune_keeps(plan, model, unit, precision, costs)
    if plan.trainer == "litgpt":
        from preflight.formulas.layers.lit_layers import as_litgpt_keeps, is_block_of_litgpt

        if is_block_of_litgpt(plan, model, unit):
            costs = as_litgpt_keeps(plan, model, unit, precision, costs)
    if plan.tensor_parallel_degree * plan.ranks_per_sequence == 1:
        return costs
    size = precision.bytes_of("compute")
    stream = stream_bytes(plan, model, unit, precision)
    if plan.tensor_parallel_degree > 1:
        costs = divided_costs(plan, costs, stream, size * model.hidden_size)
    if plan.ranks_per_sequence > 1 and unit.layer is not None and not has_state(unit):
        from preflight.formulas.divided_sequences import with_divided_sequence  # few divide one

        costs = with_divided_sequence(plan, costs, unit.layer, stream, size)
    return costs


def _whole_costs(
    plan: LaunchPlan, model: ModelSpec, unit: ModelUnit, precision: Precision
) -> LayerCosts:
    """Return the costs of one decoder layer under a plan: the family's own where they were derived."""
    pieces = layer_pieces(plan, model, unit, precision)
    if plan.torch_compile and not has_state(unit):
        from preflight.formulas.layers.compiled_layers import compiled_bytes  # few compile

        saved = compiled_bytes(plan, model, unit, precision, pieces.residual)
        return replace(
            pieces,
            saved=saved,
            # the last projection's output, which eager selective checkpointing keeps, nothing reads again
            selective=pieces.selective - precision.bytes_of("compute") * model.hidden_size,
            attention_backward=max(0, pieces.attention_backward - pieces.saved + saved),
        )
    method = method_of(plan, precision)
    forms = layer_forms(plan, model, unit, method, False)
    recomputed = layer_forms(plan, model, unit, method, True)
    if recomputed is None and plan.activation_checkpointing == "none":
        recomputed = forms  # a class that cannot be checkpointed
    if forms is None or recomputed is None:
        return pieces
    return _traced(plan, model, unit, precision, pieces, method, forms, recomputed)


def _traced(
    plan: LaunchPlan,
    model: ModelSpec,
    unit: ModelUnit,
    precision: Precision,
    pieces: LayerCosts,
    method: str,
    forms: Mapping[str, Any],
    recomputed: Mapping[str, Any],
) -> LayerCosts:
    """Return traced costs, plus what the pieces of this plan are more than those of the traced one."""
    sizes = sizes_in_forms(plan, model, unit, method)
    tokens = sizes["T*1"]
    has_scores = has_own_scores(forms)
    place = place_of(model, unit)
    reference, known = reference_of(plan, model, method, has_scores, place)
    traced_unit = _as_traced(forms, unit)
    base = layer_pieces(reference, known, traced_unit, precision_of(reference, known))
    more = tokens * (pieces.saved - base.saved)
    is_checkpointed = plan.activation_checkpointing == "full"
    used = recomputed if is_checkpointed else forms
    copies, saved_form = split(forms["saved"])
    saved = bytes_of(saved_form, sizes) + more
    beside = bytes_of(forms["saved"], sizes) + bytes_of(forms.get("left", {}), sizes)
    forward = highest_of(forms["forward"], sizes) - beside
    backward = max(bytes_of(others, sizes) for others, _ in forms["backward"])
    if not keeps_product(plan, model, unit):
        # traces adapt every projection; here nothing of the MLP is free again when its gradients peak
        product = tokens * pieces.backward_transient // 3
        backward = max(3 * product, product + _unpacked_bytes(plan, unit, precision))
    if has_one_gradient(plan):
        with_gradients = highest_of(adding_points(used), sizes)
    else:
        with_gradients = max(
            bytes_of(others, sizes) + bytes_of(gradients, sizes)
            for others, gradients in used["backward"]
        )
    forward_bytes = highest_of(used["forward"], sizes) + (0 if is_checkpointed else more)
    backward_bytes = with_gradients + (more if is_checkpointed else 0)
    if plan.attention == "eager" and not has_scores and not has_state(unit):
        point = at_scores(plan, model, unit, precision, saved // tokens)
        made = 0 if has_one_gradient(plan) else made_before_scores(plan, unit, precision)
        forward_bytes = max(forward_bytes, tokens * point.forward)
        backward_bytes = max(backward_bytes, tokens * point.backward + made)
        forward = max(forward, tokens * point.forward - saved)
        backward = max(backward, tokens * point.backward - (saved if is_checkpointed else 0))
    in_forward, in_backward = passing_of_layer(plan, model, unit, precision, tokens)
    forward_bytes, backward_bytes = forward_bytes + in_forward, backward_bytes + in_backward
    passing = dora_passing_bytes(plan, model, unit, precision, tokens)
    backward_bytes += tokens * dora_backward_bytes(plan, model, unit, precision)
    if passing and is_checkpointed:
        forward_bytes += passing
        backward_bytes = max(backward_bytes, saved + passing)
    elif passing:
        forward_bytes = max(forward_bytes, saved + passing)
    again = max(0, bytes_of(copies, sizes)) if is_checkpointed else 0
    if is_checkpointed:
        copies = split(recomputed["saved"])[0]
    if is_checkpointed:  # a sharded engine's backward begins with them, when the experts run again
        deltas = deltas_of(plan, model, unit)
        again += bytes_of(deltas.whole, sizes) if deltas is not None else 0
    of_experts, of_adapters = copied_of_experts(plan, model, unit, precision)
    if has_own_release(plan, model, method, place):  # its table was traced with such experts
        is_on_experts = adaptation_of(plan, model, method, place).targets in (ALL_LINEAR, MLP)
        of_experts, of_adapters = 0, 0 if is_on_experts else of_adapters
    of_weights = kept_of_weights(plan, model, unit, precision)
    if is_checkpointed:
        again, backward_bytes = again + of_adapters, backward_bytes + of_adapters
        again += of_weights
        backward_bytes = of_weights + max(backward_bytes, saved + in_forward)
    of_experts += of_adapters
    return replace(
        pieces,
        saved=ceil_div(saved, tokens),
        residual=ceil_div(bytes_of(split(recomputed["saved"])[1], sizes), tokens)
        + pieces.residual
        - base.residual,
        forward_transient=ceil_div(forward, tokens),
        forward_checkpointed=ceil_div(
            max(highest_of(recomputed["forward"], sizes), forward_bytes if is_checkpointed else 0),
            tokens,
        ),
        backward_transient=max(0, ceil_div(backward, tokens)),
        attention_backward=max(0, pieces.attention_backward - pieces.saved + saved // tokens),
        # a packed layer casts its own bias for good (bitsandbytes/nn/modules.py Linear4bit.forward): less, not more
        copied_bytes=max(0, bytes_of(copies, sizes))
        + (0 if is_checkpointed else of_experts + of_weights),
        copied_again_bytes=again,
        copied_in_forward_bytes=bytes_of(used.get("left", {}), sizes)
        + (of_experts if is_checkpointed else 0),
        traced_forward_bytes=forward_bytes,
        traced_backward_bytes=backward_bytes,
    )


def more_saved(
    plan: LaunchPlan, model: ModelSpec, unit: ModelUnit, precision: Precision, method: str
) -> int:
    """Return the bytes per token that a layer keeps under a plan beyond those of the traced one."""
    forms = layer_forms(plan, model, unit, method, False)
    place = place_of(model, unit)
    reference, known = reference_of(plan, model, method, has_own_scores(forms), place)
    traced_unit = _as_traced(forms, unit) if forms else unit
    base = layer_pieces(reference, known, traced_unit, precision_of(reference, known))
    return layer_pieces(plan, model, unit, precision).saved - base.saved


def adding_points(forms: Mapping[str, Any]) -> list[dict[str, int]]:
    """Return the points of a backward whose gradients are added to what is there."""
    found: list[dict[str, int]] = forms.get("adding") or [others for others, _ in forms["backward"]]
    return found


def split(form: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """Return the part of a form that is copies of weights, and the rest."""
    return (
        {name: count for name, count in form.items() if name.startswith("w:")},
        {name: count for name, count in form.items() if not name.startswith("w:")},
    )


def highest_of(forms: list[dict[str, int]], sizes: Mapping[str, int]) -> int:
    return max(bytes_of(form, sizes) for form in forms)


def _as_traced(forms: Mapping[str, Any], unit: ModelUnit) -> ModelUnit:
    """Return a layer as it was traced: a family without layers of both kinds was, in a sequence as long as its window."""
    shape = unit.layer
    if shape is None or shape.attention_kind != "sliding" or "TL*1" in forms["saved"]:
        return unit
    return replace(unit, layer=replace(shape, attention_kind="full", sliding_window=None))


def _unpacked_bytes(plan: LaunchPlan, unit: ModelUnit, precision: Precision) -> int:
    """Return the bytes of a layer's largest packed weight, unpacked to multiply with."""
    if plan.base_quantization is None:
        return 0
    packed = [
        tensor.num_params
        for tensor in unit.tensors
        if is_quantized(plan, unit, tensor) and not is_stack(tensor)
    ]
    return precision.bytes_of("compute") * max(packed, default=0)
