"""Keys and values that a model's forward hands out beside its logits, and the stream that they are made of."""

from __future__ import annotations

from preflight.formulas.precision import load_dtype, precision_of, uses_autocast
from preflight.launch import LaunchPlan
from preflight.model import LayerShape, ModelSpec
from preflight.plan_choices import HF_TRAINERS
from preflight.units import dtype_bytes
from preflight.versions.transformers import TRAINER_TURNS_CACHE_OFF
from preflight.versions.trl import SFT_TURNS_CACHE_OFF, SFT_TURNS_CACHE_OFF_CHECKPOINTED

_OF_LOGITS = (None, "sft", "pretrain", "classification")
"""Objectives whose evaluation is one forward of the model as its config has it."""


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


def cached_in_evaluation(plan: LaunchPlan, model: ModelSpec, rows: int) -> int:
    """Return the keys and values that live beside an evaluation's logits, where the model's class is transformers' and
    neither script nor trainer turns `use_cache` of its config off (tests/formulas/test_evaluation_caches.py)."""
    is_on = plan.script_facts.caches_keys
    is_checkpointed = plan.activation_checkpointing != "none"
    if is_on is False or (is_on is None and is_checkpointed) or plan.objective not in _OF_LOGITS:
        return 0
    has = plan.versions
    if plan.trainer in HF_TRAINERS and TRAINER_TURNS_CACHE_OFF.holds_in(has):
        return 0
    if plan.trainer == "trl" and SFT_TURNS_CACHE_OFF.holds_in(has):
        return 0
    if plan.trainer == "trl" and is_checkpointed and SFT_TURNS_CACHE_OFF_CHECKPOINTED.holds_in(has):
        return 0
    if model.has_both_stacks or not plan.seq_len:
        return 0
    return cache_bytes(plan, model, rows, plan.seq_len)


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
