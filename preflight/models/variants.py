"""A model of the registry under another name: what is its own, and what nobody knows of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.model import ModelSpec
from preflight.models.registry import OtherName, RegistryEntry

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
