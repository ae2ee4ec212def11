"""What torchtune's own layers keep beyond transformers' of the same model, counted by tests/formulas/tune_layers.py.

Keys and values are copied for every query head (modules/attention.py:285-291, 0.6.1; the same lines from 0.4 on). A norm that
trains keeps its rows in fp32 where transformers keeps them in the dtype of the layer: torch has no fused kernel for rows
in fp32 and a weight in 16 bits (modules/rms_norm.py:37-43).
"""

from __future__ import annotations

from dataclasses import replace

from preflight.formulas.layers.layer_bytes import LayerCosts
from preflight.formulas.precision import Precision
from preflight.formulas.sharding import num_tokens
from preflight.launch import LaunchPlan
from preflight.model import NORM, ModelSpec, ModelUnit
from preflight.versions.torchtune import NORMALISES_IN_FP32


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
    forward = costs.traced_forward_bytes
    return replace(
        costs,
        saved=costs.saved + more,
        attention_backward=costs.attention_backward + more,
        traced_forward_bytes=None if forward is None else forward + more * num_tokens(plan),
    )
