"""The `model` of a torchtune config: which weights, which adapter on them, how the frozen base is stored.

Source: torchtune/models/*/_model_builders.py and _component_builders.py of torchtune 0.6.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from preflight.launch import Adapter, BaseQuantization
from preflight.launchers.framework_keys import FrameworkKeys
from preflight.launchers.torchtune.config import COMPONENT
from preflight.launchers.torchtune.table import builders
from preflight.near_names import nearest_fix
from preflight.setting import Setting

DEFAULT_RANK, DEFAULT_ALPHA = 8, 16
"""lora_rank and lora_alpha of every lora_ builder (models/llama3_1/_model_builders.py:88, 0.6.1)."""
ATTENTION = {"output_proj": "o_proj"}
MLP = ("gate_proj", "down_proj", "up_proj")
"""w1, w2 and w3 of torchtune's FeedForward."""
FUSED = {
    "q_proj": "qkv_proj",
    "k_proj": "qkv_proj",
    "v_proj": "qkv_proj",
    "gate_proj": "gate_up_proj",
    "up_proj": "gate_up_proj",
}
"""Phi's layers are one in the registry's config and three in torchtune's models/phi3."""


Builder = Callable[[str], Mapping[str, Any] | None]
"""What is known of a model builder, by its name."""


def read_model(
    keys: FrameworkKeys, dtype: str | None, builder: Builder, section: str = "model"
) -> None:
    """Put model, adapter and base_quantization."""
    component = keys.get(f"{section}.{COMPONENT}")
    if component is None:
        where = keys.given.get(section)
        if where is not None:
            keys.refuse(
                f"{section} has no {COMPONENT}", where, "torchtune.models.llama3_1.llama3_1_8b"
            )
        return
    name = str(component.value)
    entry = builder(name)
    if entry is None:
        _unknown_builder(keys, name, component)
        return
    _check_arguments(keys, name, entry["arguments"], section)
    if entry.get("model") is None:
        keys.note(
            "PF143",
            f"{name} has the sizes of no model that preflight knows",
            component,
            "--set model_config=FILE, its config.json",
        )
    else:
        keys.put("model", entry["model"], component)
    short = name.rsplit(".", 1)[-1]
    if not short.startswith(("lora_", "qlora_")):
        return
    adapter = _adapter(keys, section, dtype, "phi" in short)
    details = [
        s
        for part in ("lora_rank", "lora_attn_modules", "apply_lora_to_mlp", "use_dora")
        if (s := keys.get(f"{section}.{part}")) is not None
    ]
    keys.put("adapter", adapter, component, *details)
    quantize = keys.flag(f"{section}.quantize_base")
    if entry.get("quantizes") or (quantize is not None and quantize.value):
        scheme = BaseQuantization("nf4", True, dtype, None, "none")
        keys.put("base_quantization", scheme, quantize or component)


def _adapter(keys: FrameworkKeys, section: str, dtype: str | None, is_fused: bool) -> Adapter:
    names: list[str] = []
    attention = keys.get(f"{section}.lora_attn_modules")
    if attention is None:
        keys.refuse(
            "a lora_ builder needs lora_attn_modules",
            keys.given[section],
            "lora_attn_modules: ['q_proj', 'v_proj', 'output_proj']",
        )
    elif isinstance(attention.value, list):
        names += [ATTENTION.get(str(item), str(item)) for item in attention.value]
    if keys.is_on(f"{section}.apply_lora_to_mlp"):
        names += MLP
    if keys.is_on(f"{section}.apply_lora_to_output"):
        names.append("lm_head")
    if is_fused:
        names = [FUSED.get(item, item) for item in names]
    rank = keys.count(f"{section}.lora_rank")
    alpha = keys.value(f"{section}.lora_alpha", DEFAULT_ALPHA)
    dropout = keys.value(f"{section}.lora_dropout", 0.0)
    return Adapter(
        kind="dora" if keys.is_on(f"{section}.use_dora") else "lora",
        rank=DEFAULT_RANK if rank is None else rank.value,
        alpha=int(alpha) if _is_number(alpha) else None,
        dropout=float(dropout) if _is_number(dropout) else 0.0,
        targets=tuple(dict.fromkeys(names)) or None,
        # Adapters are made in the recipe's dtype (recipes/lora_finetune_distributed.py:495, 0.6.1).
        dtype=dtype,
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _unknown_builder(keys: FrameworkKeys, name: str, component: Setting) -> None:
    if not name.startswith("torchtune.models."):
        keys.note(
            "PF143",
            f"{name} is a model of your own: its sizes are not known",
            component,
            "--set model=ID, a model with the same sizes",
        )
        return
    near = nearest_fix(name, tuple(builders()))
    keys.note(
        "PF143",
        f"there is no {name} in {keys.library.label}: the model is not known",
        component,
        near or "--set model=ID",
    )


def _check_arguments(keys: FrameworkKeys, name: str, arguments: list[str], section: str) -> None:
    """Refuse an argument that the builder does not take: config.instantiate calls it with all of them."""
    prefix = f"{section}."
    for key, setting in keys.given.items():
        inner = key.removeprefix(prefix)
        if inner in (key, COMPONENT) or "." in inner or inner in arguments:
            continue
        keys.refuse(
            f"{name.rsplit('.', 1)[-1]} takes no {inner}",
            setting,
            nearest_fix(inner, tuple(arguments)) or f"drop {inner}",
        )
