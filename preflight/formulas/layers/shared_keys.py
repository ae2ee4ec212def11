"""Layers that attend to keys and values of an earlier one, and what releases had in their place that shared no keys.

Gemma 3n's last layers have no keys of their own from transformers 5.6 on. Before, they took those of the cache, of which
there is none in training: every layer made its own, of its own weights (models/gemma3n/modeling_gemma3n.py
Gemma3nTextAttention.forward, `self.is_kv_shared_layer and past_key_values is not None`, 4.53.3 to 5.5.4).
"""

from __future__ import annotations

from collections.abc import Iterator

from preflight.launch import LaunchPlan
from preflight.model import ModelSpec, ModelUnit
from preflight.remembered import remembered
from preflight.values import replace
from preflight.versions.boundary import Boundary
from preflight.versions.transformers import GEMMA3N_SHARES_KEYS, GEMMA4_SHARES_KEYS

KEYS = "self_attn.k_proj.weight"
SHARES: dict[str, Boundary] = {
    "gemma3n_text": GEMMA3N_SHARES_KEYS,
    "gemma4_text": GEMMA4_SHARES_KEYS,
}


def is_before_sharing(plan: LaunchPlan, model: ModelSpec) -> bool:
    """Tell whether a plan's release gives keys of their own to layers that share them today."""
    since = SHARES.get(model.model_type)
    return since is not None and not since.holds_in(plan.versions) and any(_sharing(model))


def with_own_keys(plan: LaunchPlan, model: ModelSpec) -> ModelSpec:
    """Return the model as a plan's release builds it, where that is before its last layers shared keys."""
    is_known = model.model_type == "gemma3n_text"  # of Gemma 4 some of these layers are wider
    return _with_own_keys(model) if is_known and is_before_sharing(plan, model) else model


@remembered
def _with_own_keys(model: ModelSpec) -> ModelSpec:
    units = tuple(
        _like(_before(model, unit), unit) if unit in tuple(_sharing(model)) else unit
        for unit in model.units
    )
    return replace(model, units=units, num_params_override=None)


def _sharing(model: ModelSpec) -> Iterator[ModelUnit]:
    for unit in model.layers:
        if all(tensor.name != KEYS for tensor in unit.tensors):
            yield unit


def _before(model: ModelSpec, unit: ModelUnit) -> ModelUnit:
    """Return the layers of the same attention that are nearest before those that share, and hand nothing on."""
    assert unit.layer is not None
    sharing = tuple(_sharing(model))
    alike = [
        one
        for one in model.layers
        if one.layer is not None
        and one.layer.attention_kind == unit.layer.attention_kind
        and one not in sharing
    ]
    by_place = sorted(alike, key=lambda one: one.places[-1])
    return by_place[-2] if len(by_place) > 1 else by_place[-1]


def _like(one: ModelUnit, unit: ModelUnit) -> ModelUnit:
    return replace(unit, tensors=one.tensors, layer=one.layer)
