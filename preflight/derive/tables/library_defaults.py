"""models/families/library_defaults.json: config defaults and layer classes of the installed transformers."""

from __future__ import annotations

import dataclasses
from typing import Any

from preflight.derive.tables.json_rows import in_rows
from preflight.derive.target import Files, Say
from preflight.models.families.vision_towers import LAYOUTS

PATH = "preflight/models/families/library_defaults.json"

DECODERS = [
    "bloom", "cohere", "cohere2", "deepseek_v2", "deepseek_v3", "deepseek_v32", "falcon", "gemma", "gemma2",
    "gemma3_text", "gemma3n_text", "gemma4_text", "glm", "glm4", "glm4_moe", "glm4_moe_lite", "gpt2", "gpt_bigcode",
    "gpt_neox", "gpt_oss", "gptj", "granite", "granitemoe", "llama", "llama4_text", "ministral", "ministral3",
    "mistral", "mixtral", "olmo", "olmo2", "olmo3", "olmoe", "opt", "phi", "phi3", "phimoe", "qwen2", "qwen2_moe",
    "qwen3", "qwen3_moe", "qwen3_next", "smollm3", "stablelm", "starcoder2",
]  # fmt: skip
"""Families with a causal language model class of their own."""

COMPOSITES = {
    "gemma3": "gemma3_text",
    "gemma4": "gemma4_text",
    "idefics3": "llama",
    "internvl": "qwen2",
    "llama4": "llama4_text",
    "llava": "llama",
    "llava_next": "llama",
    "llava_onevision": "qwen2",
    "mistral3": "mistral",
    "mllama": "mllama_text_model",
    "paligemma": "gemma",
    "qwen2_5_vl": "qwen2_5_vl_text",
    "qwen2_vl": "qwen2_vl_text",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
    "qwen3_vl": "qwen3_vl_text",
    "qwen3_vl_moe": "qwen3_vl_moe_text",
    "smolvlm": "llama",
}
"""Vision-language families and the model_type of their text_config when it names none."""

NOT_DECODERS = [
    "bart", "bert", "m2m_100", "marian", "mbart", "modernbert", "mt5", "pegasus", "roberta", "t5", "umt5", "vit", "whisper",
]  # fmt: skip

LEFT_OUT = (
    "token_id", "initializer", "eps", "rope", "id2label", "label2id", "summary_", "token_index",
)  # fmt: skip
"""Parts of config keys that no layout reads."""


def derive() -> dict[str, Any]:
    """Return the tables, read from the installed transformers."""
    import transformers
    from transformers import CONFIG_MAPPING

    defaults: dict[str, Any] = {}
    spellings: dict[str, Any] = {}
    classes: dict[str, Any] = {}
    names = [*DECODERS, *COMPOSITES, *COMPOSITES.values(), *NOT_DECODERS]
    for name in sorted(set(names)):
        config_class = CONFIG_MAPPING[name]
        defaults[name] = _config_defaults(config_class)
        if name in LAYOUTS:
            vision_class = type(config_class.from_dict({"vision_config": {}}).vision_config)
            defaults[f"{name}.vision"] = _config_defaults(vision_class)
        both = _both_ways(config_class.attribute_map)
        if both:
            spellings[name] = both
        layers = _layer_classes(config_class, name)
        if layers:
            classes[name] = layers
    return {
        "transformers": transformers.__version__,
        "config_defaults": defaults,
        "spellings": spellings,
        "layer_classes": classes,
        "text_types": dict(sorted(COMPOSITES.items())),
    }


def _config_defaults(config_class: Any) -> dict[str, Any]:
    """Return the class's own plain defaults; None is left out, because an absent key reads as None."""
    from transformers import PreTrainedConfig

    inherited = {field.name for field in dataclasses.fields(PreTrainedConfig)}
    found = {}
    for field in dataclasses.fields(config_class):
        value = field.default
        plain = isinstance(value, (bool, int, float, str))
        if plain and field.name not in inherited and not any(p in field.name for p in LEFT_OUT):
            found[field.name] = value
    # Left out above by its "rope", and a size all the same.
    rope_size = getattr(config_class, "qk_rope_head_dim", None)
    if isinstance(rope_size, int):
        found["qk_rope_head_dim"] = rope_size
    return dict(sorted(found.items()))


def _both_ways(attribute_map: dict[str, str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for left, right in sorted(attribute_map.items()):
        if not any(part in left for part in LEFT_OUT):
            found[left] = (*found.get(left, ()), right)
            found[right] = (*found.get(right, ()), left)
    return found


def _layer_classes(config_class: Any, name: str) -> tuple[str, ...]:
    """Return `_no_split_modules` as an instance has it: collected over its parts, on the meta device."""
    import torch
    from transformers.models.auto import modeling_auto as auto

    for mapping in (
        auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if name in DECODERS else {},
        auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES if name in COMPOSITES else {},
        auto.MODEL_MAPPING_NAMES,
    ):
        class_name = mapping.get(name)
        if class_name:
            break
    else:
        return ()
    import transformers

    model_class = getattr(
        transformers, class_name if isinstance(class_name, str) else class_name[0]
    )
    # What the default config of a family cannot be built with (transformers 5.24).
    unset: dict[str, dict[str, Any]] = {
        "gemma4": {"audio_config": None},
        "ministral": {"head_dim": 128},
    }
    config = config_class(**unset.get(name, {}))
    with torch.device("meta"):
        model = model_class(config)
    return tuple(sorted(model._no_split_modules or ()))


def files(say: Say) -> Files:
    """Yield the file of the installed release."""
    yield PATH, in_rows(derive())
