"""Keys and values that a model's forward hands out beside its logits, and the stream that they are made of."""

from __future__ import annotations

from preflight.formulas.precision import load_dtype, precision_of, uses_autocast
from preflight.launch import LaunchPlan
from preflight.model import LayerShape, ModelSpec
from preflight.units import dtype_bytes


def stream_element_bytes(plan: LaunchPlan, model: ModelSpec) -> int:
    """Return the bytes per element of the hidden states between layers."""
    wide = dtype_bytes(load_dtype(plan, model)) == 4
    return 4 if wide and uses_autocast(plan) else precision_of(plan, model).bytes_of("compute")


def cache_bytes(plan: LaunchPlan, model: ModelSpec, rows: int, length: int) -> int:
    """Return the keys and values of all layers, as transformers keeps them: in the dtype of the product, keys in that
    of the stream that turns them (transformers/cache_utils.py DynamicCache, 5.24.0)."""
    return sum(
        unit.count * sum(_layer_cache(plan, model, unit.layer, rows, length))
        for unit in model.layers
        if unit.layer is not None
    )


def appended_bytes(plan: LaunchPlan, model: ModelSpec, rows: int, length: int) -> int:
    """Return what a token's keys or values are copied into, beside the old ones, in the layer at hand."""
    return max(
        (
            max(_layer_cache(plan, model, unit.layer, rows, length))
            for unit in model.layers
            if unit.layer is not None
        ),
        default=0,
    )


def _layer_cache(
    plan: LaunchPlan, model: ModelSpec, layer: LayerShape, rows: int, length: int
) -> tuple[int, int]:
    """Return the bytes of one layer's keys and of its values; linear attention keeps a state that does not grow."""
    if layer.attention_kind in ("linear", "none"):
        return 0, 0
    kept = length
    if layer.attention_kind == "sliding" and layer.sliding_window:
        kept = min(length, layer.sliding_window)
    c = precision_of(plan, model).bytes_of("compute")
    values = layer.num_kv_heads * (layer.v_head_dim or layer.head_dim)
    keys = layer.num_kv_heads * layer.head_dim
    return (rows * kept * keys * stream_element_bytes(plan, model), rows * kept * values * c)
