"""What one decoder layer keeps for its backward and needs in passing, in bytes per token.

Families whose layers were traced have exact coefficients (preflight/formulas/layer_coefficients.py); pieces
say what a plan adds to them, and everything about families that were not. Pieces, with h hidden, q = heads x head_dim, kv = kv_heads x head_dim, I intermediate, c bytes of the
compute dtype, read from transformers 5.24 modelling code and checked against saved-tensor hooks on a
real CPU run (tests/formulas/test_layer_costs.py):

    RMSNorm (Llama)   4n fp32 copy + 4 rstd, and c*n normalised where its weight trains
    LayerNorm (torch) c*n input + 8 mean and rstd
    Gemma RMSNorm     4n fp32 copy + 4 rstd, and 4n fp32 normalised where its weight trains
    Linear            c*in, once for layers that share their input, where its weight trains
    attention, flash  c*(q + 2kv) + c*q output + 4 per head (log-sum-exp)
    gated MLP         3cI (gate, act(gate), up) + cI product where down_proj trains
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from preflight.formulas.adapter_inputs import (
    adapter_inputs,
    copied_of_experts,
    has_fp32_residual,
    keeps_attention_output,
)
from preflight.formulas.adapters import adapter_targets, adapter_tensors, is_target
from preflight.formulas.attention_scores import (
    at_scores,
    made_before_scores,
)
from preflight.formulas.attention_tensors import (
    CONCATENATES_ROTARY,
    VALUES_IN_FUSED_QKV,
    attention_extra,
    copies_output,
    repeats_keys,
    takes_mask,
    traced_eagerly,
)
from preflight.formulas.compiled_layers import compiled_bytes
from preflight.formulas.dora import dora_backward_bytes, dora_bytes, dora_passing_bytes
from preflight.formulas.layer_bytes import LayerCosts
from preflight.formulas.layer_coefficients import (
    has_window_mask,
    kind_of,
    layer_forms,
    method_of,
    reference_of,
    shared_forms,
)
from preflight.formulas.layer_sizes import bytes_of, layer_sizes
from preflight.formulas.objective import has_linear_head
from preflight.formulas.precision import Precision, is_quantized, precision_of, uses_autocast
from preflight.formulas.tensor_parallel import cuts_stream, divided_costs
from preflight.formulas.user_loop import finds_gradients
from preflight.launch import LaunchPlan
from preflight.model import LayerShape, ModelSpec, ModelUnit
from preflight.remembered import remembered
from preflight.units import ceil_div


@remembered
def layer_costs(
    plan: LaunchPlan, model: ModelSpec, unit: ModelUnit, precision: Precision
) -> LayerCosts:
    """Return the costs of one decoder layer on one rank."""
    costs = _whole_costs(plan, model, unit, precision)
    if plan.tensor_parallel_degree == 1:
        return costs
    width = precision.bytes_of("compute") * model.hidden_size
    return divided_costs(plan, costs, stream_bytes(plan, model, unit, precision), width)


def _whole_costs(
    plan: LaunchPlan, model: ModelSpec, unit: ModelUnit, precision: Precision
) -> LayerCosts:
    """Return the costs of one decoder layer under a plan: the family's own where they were derived."""
    pieces = _pieces(plan, model, unit, precision)
    if plan.torch_compile and not _has_state(unit):
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
    sizes = layer_sizes(plan, model, unit)
    tokens = sizes["T*1"]
    has_scores = "TL*nh" in forms["saved"]
    reference, known = reference_of(plan, model, method, has_scores)
    traced_unit = _as_traced(forms, unit)
    base = _pieces(reference, known, traced_unit, precision_of(reference, known))
    more = tokens * (pieces.saved - base.saved)
    is_checkpointed = plan.activation_checkpointing == "full"
    used = recomputed if is_checkpointed else forms
    copies, saved_form = split(forms["saved"])
    saved = bytes_of(saved_form, sizes) + more
    beside = bytes_of(forms["saved"], sizes) + bytes_of(forms.get("left", {}), sizes)
    forward = _highest(forms["forward"], sizes) - beside
    backward = max(bytes_of(others, sizes) for others, _ in forms["backward"])
    if not _keeps_product(plan, model, unit):
        # traces adapt every projection; here nothing of the MLP is free again when its gradients peak
        product = tokens * pieces.backward_transient // 3
        backward = max(3 * product, product + _unpacked_bytes(plan, unit, precision))
    if finds_gradients(plan):
        with_gradients = _highest(_adding(used), sizes)
    else:
        with_gradients = max(
            bytes_of(others, sizes) + bytes_of(gradients, sizes)
            for others, gradients in used["backward"]
        )
    forward_bytes = _highest(used["forward"], sizes) + (0 if is_checkpointed else more)
    backward_bytes = with_gradients + (more if is_checkpointed else 0)
    if plan.attention == "eager" and not has_scores and not _has_state(unit):
        point = at_scores(plan, model, unit, precision, saved // tokens)
        made = 0 if finds_gradients(plan) else made_before_scores(plan, unit, precision)
        forward_bytes = max(forward_bytes, tokens * point.forward)
        backward_bytes = max(backward_bytes, tokens * point.backward + made)
        forward = max(forward, tokens * point.forward - saved)
        backward = max(backward, tokens * point.backward - (saved if is_checkpointed else 0))
    passing = dora_passing_bytes(plan, model, unit, precision, tokens)
    backward_bytes += tokens * dora_backward_bytes(plan, model, unit, precision)
    if passing and is_checkpointed:
        forward_bytes += passing
        backward_bytes = max(backward_bytes, saved + passing)
    elif passing:
        forward_bytes = max(forward_bytes, saved + passing)
    if is_checkpointed:
        copies = split(recomputed["saved"])[0]
    of_experts, of_adapters = copied_of_experts(plan, model, unit, precision)
    backward_bytes += of_adapters if is_checkpointed else 0
    of_experts += of_adapters
    return replace(
        pieces,
        saved=ceil_div(saved, tokens),
        residual=ceil_div(bytes_of(split(recomputed["saved"])[1], sizes), tokens)
        + pieces.residual
        - base.residual,
        forward_transient=ceil_div(forward, tokens),
        forward_checkpointed=ceil_div(
            max(_highest(recomputed["forward"], sizes), forward_bytes if is_checkpointed else 0),
            tokens,
        ),
        backward_transient=max(0, ceil_div(backward, tokens)),
        attention_backward=max(0, pieces.attention_backward - pieces.saved + saved // tokens),
        # a packed layer casts its own bias for good (bitsandbytes/nn/modules.py Linear4bit.forward): less, not more
        copied_bytes=max(0, bytes_of(copies, sizes)) + (0 if is_checkpointed else of_experts),
        copied_in_forward_bytes=bytes_of(used.get("left", {}), sizes)
        + (of_experts if is_checkpointed else 0),
        traced_forward_bytes=forward_bytes,
        traced_backward_bytes=backward_bytes,
    )


@remembered
def shared_bytes(plan: LaunchPlan, model: ModelSpec, precision: Precision) -> dict[str, int] | None:
    """Return what is alive beside layers, parameters and gradients, by point of the step; None without a trace."""
    method = method_of(plan, precision)
    is_checkpointed = plan.activation_checkpointing == "full"
    forms = shared_forms(plan, model, method, is_checkpointed)
    units = [unit for unit in model.layers if unit.layer is not None]
    if forms is None or not units:
        return None
    of_first = layer_forms(plan, model, units[0], method, is_checkpointed)
    if of_first is None:
        return None
    adds = finds_gradients(plan)
    if adds:
        again = forms.get("adding", {})
        forms = {**forms, "first_backward": None, **again}
    sizes = layer_sizes(plan, model, units[-1])
    if not traced_eagerly(plan, model, precision) and not _has_masks(plan, units):
        sizes = {k: v for k, v in sizes.items() if k not in ("LL", "TL*1")}
    if not has_linear_head(plan):  # its weight is no linear layer's, which autocast would copy
        sizes = {**sizes, "hV": 0}
    found = {point: bytes_of(forms[point], sizes) for point in SHARED_POINTS}
    found["head"] = bytes_of(forms.get("head", forms["loss_backward"]), sizes)
    first = layer_sizes(plan, model, units[0])
    if adds:
        pairs = forms["first_backward"]
        highest = _highest([others for others, _ in pairs] if pairs else _adding(of_first), first)
    else:
        highest = max(
            bytes_of(others, first) + bytes_of(gradients, first)
            for others, gradients in forms.get("first_backward", of_first["backward"])
        )
    found["first"] = bytes_of(forms["first"], first) + highest
    found["first"] += first["T*1"] * _more(plan, model, units[0], precision, method)
    if plan.attention == "eager" and not traced_eagerly(plan, model, precision):
        found["first"] = max(
            found["first"],
            bytes_of(forms["first"], first)
            + _at_first_scores(plan, model, units[0], precision, method),
        )
    passing = dora_passing_bytes(plan, model, units[0], precision, first["T*1"])
    whole = layer_forms(plan, model, units[0], method, False)
    if passing and is_checkpointed and whole is not None:
        saved = bytes_of(whole["saved"], first)
        saved += first["T*1"] * _more(plan, model, units[0], precision, method)
        found["first"] = max(found["first"], bytes_of(forms["first"], first) + saved + passing)
    wider = dora_backward_bytes(plan, model, units[0], precision)
    found["first"] += first["T*1"] * wider
    for point, num_bytes in _of_saved_modules(plan, model, precision).items():
        found[point] += first["T*1"] * num_bytes
    for point, num_bytes in _cast_head(plan, model, precision).items():
        found[point] += num_bytes
    return _divided_beside(plan, model, precision, found, first["T*1"])


def behind_bytes(plan: LaunchPlan, model: ModelSpec, unit: ModelUnit, precision: Precision) -> int:
    """Return what later layers of other kinds still hold when the backward of a kind's last layer begins."""
    is_checkpointed = plan.activation_checkpointing == "full"
    forms = shared_forms(plan, model, method_of(plan, precision), is_checkpointed)
    behind = (forms or {}).get("behind", {}).get(kind_of(unit), {})
    return bytes_of(behind, layer_sizes(plan, model, model.layers[-1]))


def _cast_head(plan: LaunchPlan, model: ModelSpec, precision: Precision) -> dict[str, int]:
    """Return what autocast makes of a head in fp32 that is trained beside an adapter: its copy, and that one's gradient."""
    is_wide = precision.trainable == "fp32" and precision.compute != "fp32"
    if plan.adapter is None or not (is_wide and uses_autocast(plan) and has_linear_head(plan)):
        return {}
    if precision.frozen == "fp32":  # then traces have it cast as all weights are
        return {}
    cast = 2 * sum(
        tensor.num_params
        for unit, tensor in adapter_tensors(plan, model)
        if unit.role == "lm_head" and "lora_" not in tensor.name and len(tensor.shape) == 2
    )
    return dict.fromkeys(("loss", "loss_backward", "head"), cast) if cast else {}


def _of_saved_modules(plan: LaunchPlan, model: ModelSpec, precision: Precision) -> dict[str, int]:
    """Return the bytes per token that an embedding or a head trained beside an adapter adds, by point.

    The first norm then has an input that asks for a gradient, and the head keeps its own.
    """
    if plan.adapter is None or not plan.adapter.modules_to_save:
        return {}
    roles = {
        unit.role for unit, tensor in adapter_tensors(plan, model) if "lora_" not in tensor.name
    }
    found: dict[str, int] = {}
    c, h = precision.bytes_of("compute"), model.hidden_size
    if "embedding" in roles and plan.activation_checkpointing == "none":
        residual = 4 if has_fp32_residual(plan, model, precision) else c
        of_norm = _norm(_norm_kind(model), h, 1, c, residual, False)
        found = dict.fromkeys(
            ("forward", "loss", "loss_backward", "head", "backward", "first"), of_norm
        )
    if "lm_head" in roles:
        for point in ("loss_backward", "head"):
            found[point] = found.get(point, 0) + c * h
    return found


def _at_first_scores(
    plan: LaunchPlan, model: ModelSpec, unit: ModelUnit, precision: Precision, method: str
) -> int:
    """Return what the first layer's backward needs while its scores peak, beyond what was traced when it began."""
    whole = layer_forms(plan, model, unit, method, False)
    assert whole is not None
    sizes = layer_sizes(plan, model, unit)
    tokens, more = sizes["T*1"], _more(plan, model, unit, precision, method)
    point = at_scores(
        plan, model, unit, precision, bytes_of(whole["saved"], sizes) // tokens + more
    )
    made = 0 if finds_gradients(plan) else made_before_scores(plan, unit, precision)
    kept = more if plan.activation_checkpointing == "none" else 0
    return tokens * (point.backward + kept) + made


def _divided_beside(
    plan: LaunchPlan, model: ModelSpec, precision: Precision, found: dict[str, int], tokens: int
) -> dict[str, int]:
    """Return what is alive beside the layers where the stream is cut; the head gathers its input, and keeps it."""
    if not cuts_stream(plan):
        return found
    degree = plan.tensor_parallel_degree
    whole = precision.bytes_of("compute") * model.hidden_size * tokens
    divided = {point: ceil_div(num_bytes, degree) for point, num_bytes in found.items()}
    for point in ("loss", "loss_backward", "head"):
        divided[point] += whole - whole // degree
    return divided


def _more(
    plan: LaunchPlan, model: ModelSpec, unit: ModelUnit, precision: Precision, method: str
) -> int:
    """Return the bytes per token that a layer keeps under a plan beyond those of the traced one."""
    forms = layer_forms(plan, model, unit, method, False)
    reference, known = reference_of(plan, model, method, "TL*nh" in (forms or {}).get("saved", ()))
    traced_unit = _as_traced(forms, unit) if forms else unit
    base = _pieces(reference, known, traced_unit, precision_of(reference, known))
    return _pieces(plan, model, unit, precision).saved - base.saved


def _adding(forms: Mapping[str, Any]) -> list[dict[str, int]]:
    """Return the points of a backward whose gradients are added to what is there."""
    found: list[dict[str, int]] = forms.get("adding") or [others for others, _ in forms["backward"]]
    return found


SHARED_POINTS = ("forward", "loss", "loss_backward", "backward", "embedding")


def more_logits(plan: LaunchPlan, model: ModelSpec, precision: Precision) -> dict[str, int]:
    """Return the bytes per logit beyond the usual, by point: of a family or a method that treats them its own way."""
    method = method_of(plan, precision)
    forms = shared_forms(plan, model, method, plan.activation_checkpointing == "full")
    if forms is None:
        return dict.fromkeys(("loss", "loss_backward", "head"), 0)
    size = precision.bytes_of("logits")
    usual = {"loss": size + 8 if size == 2 else 8, "loss_backward": 12, "head": size}
    # a frozen head's backward is no moment of its own
    seen = {"head": size, **forms["logits"]}
    return {point: seen[point] - usual[point] for point in usual}


def split(form: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """Return the part of a form that is copies of weights, and the rest."""
    return (
        {name: count for name, count in form.items() if name.startswith("w:")},
        {name: count for name, count in form.items() if not name.startswith("w:")},
    )


def _has_masks(plan: LaunchPlan, units: list[ModelUnit]) -> bool:
    """Tell whether SDPA's masks are tensors: where some layers' window ends before the sequence does, as one that no table says."""
    windowed = [u for u in units if u.layer and u.layer.attention_kind == "sliding"]
    is_unsaid = any(u.layer and u.layer.sliding_window is None for u in windowed)
    return not windowed or is_unsaid or any(has_window_mask(plan, unit) for unit in windowed)


def _highest(forms: list[dict[str, int]], sizes: Mapping[str, int]) -> int:
    return max(bytes_of(form, sizes) for form in forms)


@remembered
def _pieces(
    plan: LaunchPlan, model: ModelSpec, unit: ModelUnit, precision: Precision
) -> LayerCosts:
    """Return the costs of a layer put together from what its parts usually keep."""
    shape = unit.layer
    assert shape is not None
    facts = model.facts
    c = precision.bytes_of("compute")
    residual_bytes = 4 if has_fp32_residual(plan, model, precision) else c
    trains = plan.adapter is None
    h, q, kv = shape.hidden_size, shape.query_size, shape.kv_size
    v = shape.num_kv_heads * (shape.v_head_dim or shape.head_dim)
    out = shape.num_heads * (shape.v_head_dim or shape.head_dim)
    gated = facts.get("mlp", "gated") == "gated"

    norm = _norm_kind(model)
    saved = stream_bytes(plan, model, unit, precision)
    if facts.get("qk_norm"):
        saved += _norm(norm, q, shape.num_heads, c, c, trains)
        saved += _norm(norm, kv, shape.num_kv_heads, c, c, trains)

    if shape.attention_kind != "none":
        saved += c * (q + kv + v + out) + 4 * shape.num_heads
        saved += 0 if _has_state(unit) else attention_extra(plan, model, unit, shape, c)
        # the kernel that takes a mask returns tokens in order, and reads values that are repeated
        repeats = takes_mask(plan, unit) or repeats_keys(plan)
        is_copied = model.model_type in CONCATENATES_ROTARY or copies_output(plan, model, unit)
        is_copied = is_copied and not takes_mask(plan, unit)
        if is_copied and keeps_attention_output(plan, model, unit, precision):
            saved += c * out
        # a packed layer's fp32 output is cast for the kernel, so nothing of it stays
        is_cast = plan.base_quantization is not None and residual_bytes > c and uses_autocast(plan)
        if model.model_type in VALUES_IN_FUSED_QKV and not (is_cast or (repeats and kv < q)):
            saved += c * (q + kv)
    if not trains:
        saved += adapter_inputs(plan, model, unit, precision)
        saved += dora_bytes(plan, model, unit, precision)

    width = shape.intermediate_size
    if shape.num_experts:
        saved += _experts(shape, c, trains)
        width = shape.experts_per_token * shape.moe_intermediate_size
        width += shape.shared_expert_intermediate_size
        saved += _dense_mlp(shape.shared_expert_intermediate_size, c, True, trains)
    else:
        rectified = facts.get("activation") == "relu" and not gated
        saved += _dense_mlp(shape.intermediate_size, c, gated, trains or rectified)
        if rectified:
            saved -= c * shape.intermediate_size  # relu keeps its output, which is the next input
        if facts.get("activation") == "gelu_new":
            saved += 3 * c * shape.intermediate_size  # python-level tanh approximation
    dropout = sum(
        p > 0 for name, p in model.dropouts.items() if "resid" in name or "hidden" in name
    )
    saved += dropout * 2 * h  # a bool mask for each of the two residual branches

    backward = 2 * c * width + 2 * c * h
    if shape.num_experts:
        backward += c * shape.experts_per_token * h
    elif gated and not _keeps_product(plan, model, unit):
        backward = 3 * c * width  # the product's gradient, and those of gate and up made of it
    selective = residual_bytes * h + c * (q + kv + width + h) + c * out + 4 * shape.num_heads
    mlp_part = (4 if gated else 2) * c * width
    return LayerCosts(
        saved=saved,
        residual=residual_bytes * h,
        forward_transient=c * h,
        forward_checkpointed=c * (3 * width + 3 * h),
        backward_transient=backward,
        selective=selective,
        attention_backward=max(0, saved - mlp_part) + 2 * c * (q + kv + h),
    )


def _norm_kind(model: ModelSpec) -> str:
    is_wide = model.model_type in WEIGHT_APPLIED_IN_FP32
    return "gemma_rms" if is_wide else str(model.facts.get("norm", "rms"))


def stream_bytes(plan: LaunchPlan, model: ModelSpec, unit: ModelUnit, precision: Precision) -> int:
    """Return what a layer saves of the stream: in its norms, and as the inputs of weights that train."""
    facts, shape = model.facts, unit.layer
    assert shape is not None
    c = precision.bytes_of("compute")
    residual_bytes = 4 if has_fp32_residual(plan, model, precision) else c
    trains, h = plan.adapter is None, shape.hidden_size
    one_norm = bool(facts.get("parallel_block")) and not facts.get("two_norms")
    num_norms = 1 if one_norm else 4 if facts.get("post_norms") else 2
    saved = num_norms * _norm(_norm_kind(model), h, 1, c, residual_bytes, trains)
    if trains:
        gated = facts.get("mlp", "gated") == "gated"
        copies_in, copies_mlp = (3, 2 if gated else 1) if residual_bytes == 4 and c == 2 else (1, 1)
        # autocast casts the fp32 input once for every linear that reads it
        saved += c * h * copies_in
        if not one_norm:
            saved += c * h * copies_mlp
    return saved


def _has_state(unit: ModelUnit) -> bool:
    """Tell whether a layer has no scores: nobody partitioned its graph, and compiled it is taken to keep as much."""
    return unit.layer is not None and unit.layer.attention_kind == "linear"


WEIGHT_APPLIED_IN_FP32 = frozenset({"olmo2", "olmo3"})
"""RMSNorm classes that multiply by the weight before casting back (modeling_olmo2.py, 5.24.0)."""


def _norm(kind: str, n: int, heads: int, c: int, input_bytes: int, trains: bool) -> int:
    """Return what one norm over `n` features keeps per token; `heads` norms share the features."""
    if kind == "layernorm":
        return input_bytes * n + 8 * heads
    if kind == "layernorm_plain":
        return 4 * n + 8 * heads  # computed in fp32 without a weight (modeling_olmo.py)
    if kind == "cohere_layernorm":
        # x - mean twice (once squared, once scaled) and the normalised, in fp32
        return 8 * n + 12 * heads + (4 * n if trains else 0)
    normalised = n * (4 if kind == "gemma_rms" else input_bytes) if trains else 0
    return 4 * n + 4 * heads + normalised


def _as_traced(forms: Mapping[str, Any], unit: ModelUnit) -> ModelUnit:
    """Return a layer as it was traced: a family without layers of both kinds was, in a sequence as long as its window."""
    shape = unit.layer
    if shape is None or shape.attention_kind != "sliding" or "TL*1" in forms["saved"]:
        return unit
    return replace(unit, layer=replace(shape, attention_kind="full", sliding_window=None))


def _keeps_product(plan: LaunchPlan, model: ModelSpec, unit: ModelUnit) -> bool:
    """Tell whether the input of a dense MLP's last projection is kept, and free again once its gradient exists."""
    if plan.adapter is None:
        return True
    targets = adapter_targets(plan.adapter, model)
    last = [tensor for tensor in unit.tensors if tensor.module == "down_proj"]
    return not last or any(is_target(tensor, targets) for tensor in last)


def _unpacked_bytes(plan: LaunchPlan, unit: ModelUnit, precision: Precision) -> int:
    """Return the bytes of a layer's largest packed weight, unpacked to multiply with."""
    if plan.base_quantization is None:
        return 0
    packed = [tensor.num_params for tensor in unit.tensors if is_quantized(plan, unit, tensor)]
    return precision.bytes_of("compute") * max(packed, default=0)


def _dense_mlp(width: int, c: int, gated: bool, trains: bool) -> int:
    kept = 3 if gated else 1
    return (kept + (1 if trains else 0)) * c * width


def _experts(shape: LayerShape, c: int, trains: bool) -> int:
    """Router and grouped_mm experts: rows are tokens times experts per token.

    Router softmax fp32 over E, top-k sort and permutation indices (38 bytes a row), gathered
    input and un-combined output of h, 4 widths of the expert MLP (transformers/integrations/moe.py, 5.24.0).
    """
    k, width = shape.experts_per_token, shape.moe_intermediate_size
    per_row = 2 * c * shape.hidden_size + (4 if trains else 3) * c * width
    return 4 * shape.num_experts + 4 + 38 * k + k * per_row
