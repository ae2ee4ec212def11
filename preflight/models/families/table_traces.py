"""What a config says otherwise than the models of its type whose layers were traced."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from preflight.model import LARGEST_FLASH_HEAD
from preflight.models.families.config_view import ConfigView

HEAD_SIZES = ("head_dim", "global_head_dim", "dim_head", "kv_channels", "d_head")
ACTIVATIONS = (
    "hidden_act", "activation_function", "hidden_activation", "mamba_hidden_act", "afn", "activation",
)  # fmt: skip
ALIKE = frozenset({"silu", "swish", "gelu", "gelu_pytorch_tanh"})
"""Activations that keep their input, and nothing else (transformers/activations.py, 5.24.0)."""
WIDER = ("use_double_wide_mlp",)
"""Switches that make some layers' MLPs wider, and change no other tensor: bytes follow the width (modeling_gemma4.py
Gemma4TextMLP, 5.24.0)."""
WINDOWS = ("sliding_window", "sliding_window_size", "window_size", "attention_window_size")
"""What types call the same size, the usual name first."""


def unlike_traced(
    table: Mapping[str, Any], view: ConfigView, switches: Mapping[str, Any]
) -> Iterator[str]:
    """Yield what a config says otherwise than the models whose layers were traced, as far as bytes depend on it.

    `switches`: of the variant whose traces they are.
    """
    for name, default in table["defaults"].items():
        value = view.get(name)
        is_other = value != default and (
            (name in ACTIVATIONS and not {value, default} <= ALIKE) or "rotary_" in name
        )
        if is_other:
            yield f"{name}={value}"
    for name, default in table.get("traced", {}).items():
        if bool(view.get(name)) != default and name not in switches:
            yield f"{name}={view.get(name)}"
    for name, like_null in table.get("untraced", {}).items():
        if view.get(name) and view.get(name) not in like_null and name not in WINDOWS:
            yield f"{name}={view.get(name)}"
    # a part that a config has none of, as experts, was in every model that was traced
    for name in sorted({name for kind in table["kinds"] for name in _counts(kind["tensors"])}):
        if view.get(name) == 0 and name not in switches:
            yield f"{name}=0"
    large = table.get("large_heads", ())
    for name in (name for name in table["defaults"] if name in HEAD_SIZES):
        size = view.get(name)
        if isinstance(size, int) and (size > LARGEST_FLASH_HEAD) != (name in large):
            yield f"{name}={size}"


def null_fields(table: Mapping[str, Any]) -> set[str]:
    """Return the fields that were null in every model that a table was made from."""
    return {*table.get("unset", ()), *table.get("untraced", ())}


def _counts(conditions: Any) -> Iterator[str]:
    """Yield the numbers for which conditions ask whether they are none: `["is", NAME, 0]`, however deep."""
    if isinstance(conditions, list):
        is_one = len(conditions) == 3 and conditions[0] == "is" and conditions[2] == 0
        if is_one and not isinstance(conditions[2], bool):
            yield conditions[1]
        for part in conditions:
            yield from _counts(part)
