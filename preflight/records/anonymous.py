"""The plan of a run as a record keeps it: numbers and known words, without paths and without text of the user's own.

A config.json may hold anything beside its sizes (`_name_or_path`, a token, a note), and a record may lie in a folder
that a whole site reads.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from preflight.lazy_pattern import lazy_pattern

CONFIG_WORDS = frozenset(
    (
        *("model_type", "architectures", "hidden_act", "hidden_activation", "activation_function"),
        *("torch_dtype", "dtype", "attn_implementation", "layer_types", "layers_block_type"),
        *("type", "rope_type", "quant_method", "bnb_4bit_quant_type", "bnb_4bit_compute_dtype"),
        *("position_embedding_type", "attention_types", "mlp_layer_types", "scoring_func"),
        *("mlp_type", "norm_type", "feed_forward_proj", "topk_method", "mamba_ssm_dtype"),
        *("projector_hidden_act", "vision_feature_select_strategy", "use_bidirectional_attention"),
        *("norm_rel_ebd", "pos_att_type", "hybrid_override_pattern", "mlp_hidden_act"),
        *("mamba_hidden_act", "indexer_types"),
    )
)
"""Keys of a config.json, nested ones too, whose text is a word of the libraries' and decides sizes."""
WORD = lazy_pattern(r"[A-Za-z0-9_.+-]{1,64}")
LAYERS = lazy_pattern(r"[EFM*-]{1,512}")
"""A letter a layer, as `hybrid_override_pattern` has them."""
TARGETS = lazy_pattern(r"[A-Za-z0-9_.+*?|()\[\]\\^$:-]{1,300}")
"""A pattern of module names, as PEFT takes one."""
HUB_ID = lazy_pattern(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}(/[A-Za-z0-9][A-Za-z0-9_.-]{0,95})?")
LOCAL = "local"


def anonymous_plan(plan: Mapping[str, Any], folder: str = "") -> dict[str, Any]:
    """Return plan fields without paths and free text; a model of one's own is called by its type."""
    kept = {name: _without_text(value) for name, value in plan.items() if name != "model_config"}
    adapter = plan.get("adapter")
    if isinstance(adapter, Mapping) and TARGETS.fullmatch(str(adapter.get("targets"))):
        kept["adapter"]["targets"] = adapter["targets"]
    config = plan.get("model_config")
    if isinstance(config, Mapping):
        kept["model_config"] = anonymous_config(config)
    model = plan.get("model")
    if model is not None:
        kind = kept.get("model_config", {}).get("model_type", "model")
        kept["model"] = model if is_public(str(model), folder) else f"{LOCAL} {kind}"
    return kept


def anonymous_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a config.json decides sizes: its numbers, and the words of CONFIG_WORDS."""
    kept = {}
    for key, value in config.items():
        if not isinstance(key, str) or key.startswith("_") or not WORD.fullmatch(key):
            continue
        if isinstance(value, Mapping):
            kept[key] = anonymous_config(value)
        elif key in CONFIG_WORDS:
            kept[key] = _without_text(value)
        elif _is_number(value):
            kept[key] = value
    return kept


def is_public(model: str, folder: str) -> bool:
    """Tell whether a model is named as on the hub, and no file or folder of the run is."""
    return bool(HUB_ID.fullmatch(model)) and not os.path.exists(os.path.join(folder, model))


def _is_number(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_number, value))
    return value is None or isinstance(value, (bool, int, float))


def _without_text(value: Any) -> Any:
    """Return a value with every text in it that is no single word left out."""
    if isinstance(value, str):
        return value if WORD.fullmatch(value) or LAYERS.fullmatch(value) else None
    if isinstance(value, Mapping):
        return {name: _without_text(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [item for item in map(_without_text, value) if item is not None]
    return value
