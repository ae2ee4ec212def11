"""What one decoder layer keeps for its backward and needs in passing, in bytes per token.

Families whose layers were traced have exact coefficients (preflight/formulas/layers/layer_coefficients.py); pieces
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

from preflight.formulas.adapters.adapter_inputs import (
    adapter_inputs,
    has_fp32_residual,
    keeps_attention_output,
    keeps_every_input,
    keeps_packed_inputs,
)
from preflight.formulas.adapters.adapters import adapter_targets, is_target
from preflight.formulas.adapters.dora import dora_bytes
from preflight.formulas.cost_tables import GROUPED_KEYS
from preflight.formulas.layers.attention_tensors import (
    CONCATENATES_ROTARY,
    VALUES_IN_FUSED_QKV,
    attention_extra,
    copies_output,
    repeats_keys,
    takes_mask,
)
from preflight.formulas.layers.layer_bytes import LayerCosts
from preflight.formulas.precision import Precision, uses_autocast
from preflight.launch import LaunchPlan
from preflight.model import LayerShape, ModelSpec, ModelUnit
from preflight.remembered import remembered


@remembered
def layer_pieces(
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

    norm = norm_kind(model)
    saved = stream_bytes(plan, model, unit, precision)
    if facts.get("qk_norm"):
        saved += norm_bytes(norm, q, shape.num_heads, c, c, trains)
        saved += norm_bytes(norm, kv, shape.num_kv_heads, c, c, trains)

    if shape.attention_kind != "none":
        saved += c * (q + kv + v)
        if has_state(unit):
            saved += _kept_with_keys(plan, model, residual_bytes, c)
        else:
            saved += attention_extra(plan, model, unit, shape, c)
        saved += _attention_output(plan, model, unit, shape, precision)
        # the kernel that takes a mask, and a product of several keys, read values that are repeated
        repeats = takes_mask(plan, model, unit) or repeats_keys(plan, model.model_type)
        # a packed layer's fp32 output is cast for the kernel, so nothing of it stays
        is_cast = plan.base_quantization is not None and residual_bytes > c and uses_autocast(plan)
        is_view = not is_cast and not is_eager(plan, unit) and not (repeats and kv < q)
        if model.model_type in VALUES_IN_FUSED_QKV and is_view:
            saved += c * (q + kv)
    if not trains:
        saved += adapter_inputs(plan, model, unit, precision)
        saved += dora_bytes(plan, model, unit, precision)
    held = 0
    if keeps_packed_inputs(plan):
        from preflight.formulas.adapters.packed_inputs import packed_inputs  # few keep them
        from preflight.formulas.layers.checkpointing import is_reentrant

        inputs = packed_inputs(plan, model, unit, precision)
        # of a checkpoint that is not reentrant the first forward's nodes stay, and the second's are gone before the backward
        held = 0 if is_reentrant(plan) else inputs.whole
        saved += inputs.beside if plan.activation_checkpointing == "none" or not held else 0

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
    elif gated and not keeps_product(plan, model, unit):
        backward = 3 * c * width  # the product's gradient, and those of gate and up made of it
    selective = residual_bytes * h + c * (q + kv + width + h) + c * out + 4 * shape.num_heads
    mlp_part = (4 if gated else 2) * c * width
    return LayerCosts(
        saved=saved,
        residual=residual_bytes * h,
        held=held,
        forward_transient=c * h,
        forward_checkpointed=c * (3 * width + 3 * h),
        backward_transient=backward,
        selective=selective,
        attention_backward=max(0, saved - mlp_part) + 2 * c * (q + kv + h),
    )


def _kept_with_keys(plan: LaunchPlan, model: ModelSpec, residual_bytes: int, c: int) -> int:
    """Return what a gated delta rule keeps because its queries and keys are views of what was convolved: the values.

    Those of fewer heads than the values' are repeated, as they were in traces; 16-bit ones are cast before they are kept
    (modeling_qwen3_5.py torch_chunk_gated_delta_rule, 5.24.0).
    """
    delta = model.facts.get("delta")
    if not delta or model.facts.get(GROUPED_KEYS) or delta["key_heads"] != delta["value_heads"]:
        return 0
    is_wide = c == 4 or (plan.base_quantization is not None and residual_bytes == 4)
    return 4 * int(delta["value_heads"] * delta["value_dim"]) if is_wide else 0


def _attention_output(
    plan: LaunchPlan, model: ModelSpec, unit: ModelUnit, shape: LayerShape, precision: Precision
) -> int:
    """Return what attention keeps of what comes out of it: the kernel its output, and the last projection a copy in the
    order of tokens; of eager attention, whose product keeps none, the projection alone has it."""
    num_bytes = (
        precision.bytes_of("compute") * shape.num_heads * (shape.v_head_dim or shape.head_dim)
    )
    is_kept = keeps_attention_output(plan, model, unit, precision)
    if is_eager(plan, unit):
        return num_bytes if is_kept else 0
    # the kernel that takes a mask returns tokens in order
    is_copied = model.model_type in CONCATENATES_ROTARY or copies_output(plan, model, unit)
    is_copied = is_copied and is_kept and not takes_mask(plan, model, unit)
    return num_bytes * (2 if is_copied else 1) + 4 * shape.num_heads


def is_eager(plan: LaunchPlan, unit: ModelUnit) -> bool:
    """Tell whether a layer's attention is two products with a softmax between them."""
    return plan.attention == "eager" and not has_state(unit)


def norm_kind(model: ModelSpec) -> str:
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
    in_parallel = bool(facts.get("parallel_block"))
    num_norms = 1 if in_parallel else 4 if facts.get("post_norms") else 2
    saved = num_norms * norm_bytes(norm_kind(model), h, 1, c, residual_bytes, trains)
    if in_parallel and not one_norm:  # both read the layer's input, which autocast casts for each
        is_cast = uses_autocast(plan) and residual_bytes == 2
        saved += norm_bytes(norm_kind(model), h, 1, c, 4 if is_cast else 0, trains)
    if trains:
        gated = facts.get("mlp", "gated") == "gated"
        copies_in, copies_mlp = (3, 2 if gated else 1) if residual_bytes == 4 and c == 2 else (1, 1)
        # autocast casts the fp32 input once for every linear that reads it
        saved += c * h * copies_in
        if not one_norm:
            saved += c * h * copies_mlp
    return saved


def has_state(unit: ModelUnit) -> bool:
    """Tell whether a layer has no scores: nobody partitioned its graph, and compiled it is taken to keep as much."""
    return unit.layer is not None and unit.layer.attention_kind == "linear"


WEIGHT_APPLIED_IN_FP32 = frozenset({"olmo2", "olmo3"})
"""RMSNorm classes that multiply by the weight before casting back (modeling_olmo2.py, 5.24.0)."""


def norm_bytes(kind: str, n: int, heads: int, c: int, input_bytes: int, trains: bool) -> int:
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


def keeps_product(plan: LaunchPlan, model: ModelSpec, unit: ModelUnit) -> bool:
    """Tell whether the input of a dense MLP's last projection is kept, and free again once its gradient exists."""
    if plan.adapter is None or keeps_every_input(plan, model) or keeps_packed_inputs(plan):
        return True
    targets = adapter_targets(plan.adapter, model)
    last = [tensor for tensor in unit.tensors if tensor.module == "down_proj"]
    return not last or any(is_target(tensor, targets) for tensor in last)


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
