"""What offloading of activations leaves on the device where nothing is recomputed: TRL's, which axolotl uses under an adapter.

Every saved tensor is copied to the host as the forward goes on; the last few stay until their copies are done, and
come back node by node in the backward (trl/models/activation_offloading.py OffloadActivations, 1.16.0). A tensor
that is saved again while it waits is not copied twice: it stays on the device, where that release notes so.
"""

from __future__ import annotations

from preflight.formulas.adapters.adapters import adapter_targets, is_target
from preflight.formulas.precision import Precision, uses_autocast
from preflight.launch import LaunchPlan
from preflight.model import LINEAR, ModelSpec, ModelUnit
from preflight.versions.trl import KEEPS_WHAT_IS_SAVED_TWICE

NUM_WAITING = 5
"""Tensors that wait for their copies: `max_fwd_stash_size` (trl/models/activation_offloading.py, 1.16.0)."""
NUM_NORMS = 2


def bytes_left(plan: LaunchPlan, model: ModelSpec, unit: ModelUnit, precision: Precision) -> int:
    """Return the bytes per token that a layer keeps on the device: what two operations save within a few others.

    RMSNorm's fp32 copy is squared and scaled; the input of projections is one tensor for all that do not cast it.
    """
    shape = unit.layer
    assert shape is not None
    if not KEEPS_WHAT_IS_SAVED_TWICE.holds_in(plan.versions):
        return 0
    norms = shape.hidden_size * (4 if model.facts.get("post_norms") else NUM_NORMS)
    if model.facts.get("qk_norm"):
        norms += shape.query_size + shape.kv_size
    is_plain = model.facts.get("norm") == "layernorm"
    left = 0 if is_plain else 4 * norms
    if shares_inputs(plan, precision):
        left += precision.bytes_of("compute") * _saved_twice(plan, model, unit)
    return left


def shares_inputs(plan: LaunchPlan, precision: Precision) -> bool:
    """Tell whether projections save one input together: adapters in another dtype cast their own."""
    if plan.adapter is None or precision.trainable == precision.compute:
        return True
    return plan.base_quantization is not None and uses_autocast(plan)


def _saved_twice(plan: LaunchPlan, model: ModelSpec, unit: ModelUnit) -> int:
    """Return the features of what projections save of each other's: attention's input, the MLP's, attention's output."""
    shape = unit.layer
    assert shape is not None
    names = {t.module for t in unit.tensors if t.kind == LINEAR and len(t.shape) == 2}
    if plan.adapter is not None:
        if plan.adapter.dropout > 0:
            return 0
        targets = adapter_targets(plan.adapter, model)
        names = {t.module for t in unit.tensors if is_target(t, targets)}
    of_attention = len(names & {"q_proj", "k_proj", "v_proj"}) > 1
    of_mlp = len(names & {"gate_proj", "up_proj"}) > 1
    out = shape.num_heads * (shape.v_head_dim or shape.head_dim) if "o_proj" in names else 0
    # norms of queries and keys save more between two projections than waits, unless the base saves nothing
    is_gone = bool(model.facts.get("qk_norm")) and (
        plan.adapter is None or plan.base_quantization is not None
    )
    inputs = (of_attention and not is_gone) + of_mlp
    return inputs * shape.hidden_size + (out if of_attention or of_mlp else 0)


def bytes_in_flight(plan: LaunchPlan, unit: ModelUnit, precision: Precision, offloaded: int) -> int:
    """Return the bytes per token of what waits for its copy, or is back for one node of the backward."""
    shape = unit.layer
    assert shape is not None
    widest = max(
        shape.intermediate_size,
        shape.query_size,
        shape.hidden_size,
        shape.experts_per_token * max(shape.moe_intermediate_size, shape.hidden_size),
        shape.num_heads * (plan.seq_len or 0) if plan.attention == "eager" else 0,
    )
    return min(offloaded, NUM_WAITING * precision.bytes_of("compute") * widest)
