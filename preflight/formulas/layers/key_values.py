"""Keys and values that a model's forward hands out beside its logits, and the stream that they are made of."""

from __future__ import annotations

from preflight.formulas.precision import load_dtype, precision_of, uses_autocast
from preflight.formulas.user_loop import OF_HUB_CODE
from preflight.launch import LaunchPlan
from preflight.model import LayerShape, ModelSpec
from preflight.plan_choices import HF_TRAINERS
from preflight.units import dtype_bytes
from preflight.versions.transformers import (
    CACHES_IN_AN_OBJECT,
    CACHES_NOTHING_IN_TRAINING,
    TRAINER_TURNS_CACHE_OFF,
)
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
    if not _gives_caches(plan, model) or not plan.seq_len:
        return 0
    copies = 0
    if _casts_caches(plan, model):  # beside what is cast, until that is handed on
        keeps_keys = stream_element_bytes(plan, model) == 4
        copies = _in_fp32(model, rows * plan.seq_len, values_alone=keeps_keys)
    return cache_bytes(plan, model, rows, plan.seq_len) + copies


def cast_in_training(plan: LaunchPlan, model: ModelSpec, tokens: int) -> int:
    """Return the keys and values in fp32 that a training forward gives back, where accelerate casts a tuple of them: its
    copies, and keys that are fp32 themselves; no graph holds either. They live until the loss is handed on."""
    is_of_hub = model.model_type in OF_HUB_CODE  # which asks nobody whether it trains
    caches_none = CACHES_NOTHING_IN_TRAINING.holds_in(plan.versions) and not is_of_hub
    if plan.activation_checkpointing != "none" or caches_none:
        return 0
    is_cast = _gives_caches(plan, model) and _casts_caches(plan, model)
    return _in_fp32(model, tokens) if is_cast else 0


def kept_by_outputs(plan: LaunchPlan, model: ModelSpec, tokens: int) -> int:
    """Return what a training forward gives back of ChatGLM2 and 3 that no graph holds: keys before they are copied for
    every head, and values that are a view of the product of all three (modeling_chatglm.py SelfAttention.forward)."""
    is_kept = model.model_type == "chatglm" and plan.activation_checkpointing == "none"
    if not is_kept or not _gives_caches(plan, model):
        return 0
    c = precision_of(plan, model).bytes_of("compute")
    shapes = ((unit.count, unit.layer) for unit in model.layers if unit.layer is not None)
    return c * tokens * sum(num * (shape.query_size + 3 * shape.kv_size) for num, shape in shapes)


def _gives_caches(plan: LaunchPlan, model: ModelSpec) -> bool:
    """Tell whether a model's forward gives back keys and values."""
    is_on = plan.script_facts.caches_keys
    is_checkpointed = plan.activation_checkpointing != "none"
    if is_on is False or (is_on is None and is_checkpointed) or plan.objective not in _OF_LOGITS:
        return False
    has = plan.versions
    if plan.trainer in HF_TRAINERS and TRAINER_TURNS_CACHE_OFF.holds_in(has):
        return False
    if plan.trainer == "trl" and SFT_TURNS_CACHE_OFF.holds_in(has):
        return False
    if plan.trainer == "trl" and is_checkpointed and SFT_TURNS_CACHE_OFF_CHECKPOINTED.holds_in(has):
        return False
    return not model.has_both_stacks


def _casts_caches(plan: LaunchPlan, model: ModelSpec) -> bool:
    """Tell whether accelerate casts them with the logits: they are in tuples, which Gemma 2's never were."""
    is_wrapped = uses_autocast(plan) and plan.trainer in HF_TRAINERS
    in_object = CACHES_IN_AN_OBJECT.holds_in(plan.versions) and model.model_type not in OF_HUB_CODE
    in_tuples = model.model_type != "gemma2" and not in_object
    return is_wrapped and in_tuples


def _in_fp32(model: ModelSpec, tokens: int, *, values_alone: bool = False) -> int:
    """Return the keys and values of some tokens in fp32; releases with tuples cut none at a window."""
    elements = 0
    for unit in model.layers:
        layer = unit.layer
        if layer is not None and layer.attention_kind not in ("linear", "none"):
            width = (layer.v_head_dim or layer.head_dim) + (0 if values_alone else layer.head_dim)
            elements += unit.count * layer.num_kv_heads * width
    return 4 * tokens * elements


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
