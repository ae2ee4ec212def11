"""Models of the shipped registry, by their own and other names, and the error for one that nobody knows; asked last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.model import Likeness, ModelSpec
from preflight.models import describe
from preflight.models.folder import is_path
from preflight.models.not_known import not_known
from preflight.models.registry import EVIDENCE, GUESSES, OtherName, RegistryEntry, entry_of, find


@hookimpl
def preflight_describe_model(plan: LaunchPlan) -> ModelSpec | None:
    """Describe a model by its hub id, a folder that is not here by its name; refuse one that is not known anywhere."""
    if plan.model is None:
        return None
    entry, other = (None, None) if is_path(plan.model) else find(plan.model)
    if entry is None:
        from preflight.models.trained_here import named_elsewhere  # most models are listed

        other = named_elsewhere(plan.model, plan.cwd)
        entry = None if other is None else entry_of(other.model)
    if entry is None:
        origin = plan.origins.get("model")
        where = origin.where if origin else ""
        raise not_known(f"not known here: model {plan.model}", plan.model, where)
    source, like = "the registry", None
    if other is not None:
        like = Likeness(entry.id, EVIDENCE[other.evidence], other.evidence in GUESSES)
        source = f"the registry, as {entry.id}: {like.evidence}"
    spec = describe(config_of(entry, other), plan.model, source, entry.num_params)
    return replace(spec, like=like, stored_dtypes=stored_dtypes(spec, other))


PACKED: Mapping[str, Mapping[str, Any]] = {
    "bnb-4bit": {
        "quant_method": "bitsandbytes",
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": "bfloat16",
    },
    "bnb-8bit": {"quant_method": "bitsandbytes", "load_in_8bit": True},
}
"""Packing of a name -> the `quantization_config` of such a copy, as far as memory depends on it."""
DYNAMIC = "unsloth-bnb-4bit"
"""Unsloth's copies that leave some layers in 16 bits, each model others."""
POSITIONS = ("max_position_embeddings", "n_positions")


def config_of(entry: RegistryEntry, other: OtherName | None) -> Mapping[str, Any]:
    """Return the config of an entry under another name of it, with that one's own positions and packing."""
    config = dict(entry.config)
    if other is None:
        return config
    if other.max_positions is not None:
        section = config.get("text_config")
        if isinstance(section, dict):
            config["text_config"] = _with_positions(section, other.max_positions)
        else:
            config = _with_positions(config, other.max_positions)
    if other.packing == DYNAMIC:
        config["quantization_config"] = {**PACKED["bnb-4bit"], "llm_int8_skip_modules": [DYNAMIC]}
    elif other.packing:
        packed = PACKED.get(other.packing, {"quant_method": other.packing})
        config["quantization_config"] = dict(packed)
    return config


def stored_dtypes(spec: ModelSpec, other: OtherName | None) -> tuple[str, ...]:
    """Return what the weights may be stored in, the likeliest first; nothing where the registry knows it."""
    known = spec.config_dtype
    if known is not None and (other is None or other.has_its_dtype):
        return ()
    likely = known or "bf16"
    return (likely, "bf16" if likely == "fp32" else "fp32")


def _with_positions(section: Mapping[str, Any], positions: int) -> dict[str, Any]:
    name = next((name for name in POSITIONS if name in section), POSITIONS[0])
    return {**section, name: positions}
