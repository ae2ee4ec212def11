"""What torchtune's own layers keep beyond transformers' of the same model, counted by tests/formulas/tune_layers.py.

Keys and values are copied for every query head (modules/attention.py:285-291, 0.6.1; the same lines from 0.4 on). A norm that
trains keeps its rows in fp32 where transformers keeps them in the dtype of the layer: torch has no fused kernel for rows
in fp32 and a weight in 16 bits (modules/rms_norm.py:37-43).
"""

from __future__ import annotations

from dataclasses import replace

from preflight.formulas.layers.layer_bytes import LayerCosts
from preflight.formulas.precision import Precision, is_quantized
from preflight.formulas.sharding import num_tokens
from preflight.launch import LaunchPlan
from preflight.model import NORM, ModelSpec, ModelUnit
from preflight.units import ceil_div
from preflight.versions.torchtune import NORMALISES_IN_FP32

UNPACKED = 14
"""Bytes of an element that torchao unpacks of 4 bits: two int64 of which one is every other element's, its value before and after
its scale, and both put together (torchao/dtypes/nf4tensor.py get_original_weight, 0.10.0; the same lines in 0.18.0)."""
OF_BACKWARD = 2
"""Of these, what the backward of bitsandbytes is estimated with."""


def as_torchtune_keeps(
    plan: LaunchPlan, model: ModelSpec, unit: ModelUnit, precision: Precision, costs: LayerCosts
) -> LayerCosts:
    """Return the costs of a layer with what torchtune's keeps more."""
    shape, size = unit.layer, precision.bytes_of("compute")
    if shape is None:
        return costs
    more = 2 * size * max(0, shape.query_size - shape.kv_size)
    if plan.adapter is None and NORMALISES_IN_FP32.holds_in(plan.versions):
        norms = [t for t in unit.tensors if t.kind == NORM and t.shape == (model.hidden_size,)]
        more += (4 - size) * model.hidden_size * len(norms)
    tokens, unpacked = num_tokens(plan), UNPACKED * _largest_packed(plan, unit)
    each = ceil_div(unpacked, tokens) if tokens else 0
    forward, backward = costs.traced_forward_bytes, costs.traced_backward_bytes
    return replace(
        costs,
        saved=costs.saved + more,
        attention_backward=costs.attention_backward + more,
        forward_transient=costs.forward_transient + each,
        forward_checkpointed=costs.forward_checkpointed + each,
        backward_transient=costs.backward_transient + each,
        traced_forward_bytes=None if forward is None else forward + more * tokens + unpacked,
        traced_backward_bytes=None
        if backward is None
        else backward + (UNPACKED - OF_BACKWARD) * _largest_packed(plan, unit),
    )


def _largest_packed(plan: LaunchPlan, unit: ModelUnit) -> int:
    if plan.base_quantization is None:
        return 0
    return max((t.num_params for t in unit.tensors if is_quantized(plan, unit, t)), default=0)
