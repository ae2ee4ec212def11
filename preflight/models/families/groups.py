"""Which module lays out a type of models, and whether a config gives every parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.errors import ModelNotKnown
from preflight.models.families.config_view import ConfigView
from preflight.models.families.layout import Paths
from preflight.models.families.library_defaults import family_table, library_defaults

GROUPS: dict[str, tuple[str, ...]] = {
    "llama_like": (
        "llama",
        "mistral",
        "ministral",
        "ministral3",
        "granite",
        "smollm3",
        "qwen2",
        "qwen2_vl_text",
        "qwen2_5_vl_text",
        "qwen3",
        "qwen3_vl_text",
        "gemma",
        "gemma2",
        "gemma3_text",
        "olmo",
        "olmo2",
        "olmo3",
        "cohere",
        "cohere2",
        "stablelm",
        "phi3",
        "glm",
        "glm4",
        "starcoder2",
    ),
    "gpt_like": ("phi", "gpt2", "gpt_bigcode", "gptj", "gpt_neox", "falcon", "opt", "bloom"),
    "mixture_of_experts": (
        "mixtral",
        "qwen2_moe",
        "qwen3_moe",
        "qwen3_vl_moe_text",
        "olmoe",
        "phimoe",
        "granitemoe",
        "glm4_moe",
        "gpt_oss",
        "llama4_text",
    ),
    "latent_attention": ("deepseek_v2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite"),
    "linear_attention": ("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"),
    "cross_attention": ("mllama_text_model",),
    "both_stacks": ("t5", "mt5", "umt5"),
    "bart_like": ("bart", "mbart", "pegasus", "marian", "m2m_100"),
    "hearing": ("whisper",),
}
"""Module of this package -> the model types it lays out."""

SAME_AS = {"kimi_k2": "deepseek_v3"}
"""Hub model types whose code is another family's under a new name."""

FIRST_CHATGLM = ("chatglm", "inner_hidden_size", "chatglm1")
"""What the configs of ChatGLM-6B and of its successors both say, the key that its own alone has, and its type here."""


def type_of(model_type: str, config: Mapping[str, Any]) -> str:
    """Return the type that lays a config out, where its code is another's or two codes have one name."""
    name, key, own = FIRST_CHATGLM
    return own if model_type == name and key in config else SAME_AS.get(model_type, model_type)


BOTH_STACKS = ("both_stacks", "bart_like", "hearing")
"""The modules that lay out encoders with a decoder."""
TABLE = "table_layout"
"""The module that lays out every type with a table of its own."""


def group_of(model_type: str) -> str | None:
    """Return the module that lays a decoder out; None for a family without a layout."""
    of_module = next((group for group, types in GROUPS.items() if model_type in types), None)
    return of_module or (TABLE if family_table(model_type) is not None else None)


def group_of_config(model_type: str, config: Mapping[str, Any]) -> str | None:
    """Return the module that lays a config out: a table where it names the decoder alone of a type with both stacks."""
    group = group_of(model_type)
    named = config.get("architectures")
    first = str(named[0]) if isinstance(named, (list, tuple)) and named else ""
    is_alone = first.endswith("ForCausalLM") and family_table(model_type) is not None
    return TABLE if group in BOTH_STACKS and is_alone else group


def is_laid_out(config: Mapping[str, Any]) -> bool:
    """Tell whether a config gives every parameter: its decoder is laid out, its vision tower countable."""
    top_type = config.get("model_type")
    if not isinstance(top_type, str):
        return False
    text_types = library_defaults().text_types
    if top_type not in text_types:
        own_type = type_of(top_type, config)
        group = group_of(own_type)
        return group is not None and (group != TABLE or _is_in_table(config, own_type))
    section = config.get("text_config")
    given = section.get("model_type") if isinstance(section, Mapping) else None
    text_type = text_types[top_type] if given in (None, top_type) else str(given)
    if group_of(text_type) is None:
        return False
    from preflight.models.families.vision_towers import hears, lay_out_tower

    layout, _ = lay_out_tower(ConfigView(config, top_type), text_hidden=1)
    return layout is not None and not hears(config)


def _is_in_table(config: Mapping[str, Any], model_type: str) -> bool:
    """Tell whether a type's table speaks of one of its configs."""
    from preflight.models.families.table_layout import lay_out

    try:
        lay_out(ConfigView(config, model_type), Paths())
    except ModelNotKnown:
        return False
    return True
