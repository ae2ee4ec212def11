"""How many parameters a vision tower and its projector have: counted from the config, not laid out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from preflight.models.families.config_view import ConfigView

Counter = Callable[[ConfigView, ConfigView, int], int]

QWEN3_DEEPSTACK = 3
"""Entries of `deepstack_visual_indexes` where the file has none (configuration_qwen3_vl.py)."""

MLLAMA_ASPECT_RATIOS = 8
"""Entries of `supported_aspect_ratios` where the file has none (configuration_mllama.py)."""


def count_tower(top: ConfigView, text_hidden: int) -> tuple[int | None, ConfigView]:
    """Return the parameters of everything but the decoder, and the view they were read through.

    The count is None for a tower of a kind that nobody counted here.
    """
    section = top.values.get("vision_config")
    vision = ConfigView(
        section if isinstance(section, Mapping) else {},
        f"{top.model_type}.vision",
        top.where,
        "vision_config.",
    )
    kind = vision.values.get("model_type")
    counter = COUNTERS.get(top.model_type)
    if counter is None or (kind is not None and kind not in KINDS[top.model_type]):
        return None, vision
    return counter(top, vision, text_hidden), vision


def _linear(num_in: int, num_out: int, bias: bool = True) -> int:
    return num_in * num_out + (num_out if bias else 0)


def _plain_block(hidden: int, width: int) -> int:
    """Return a ViT layer: two LayerNorms, four projections and a plain MLP, all with biases."""
    attention = 4 * _linear(hidden, hidden)
    return 4 * hidden + attention + _linear(hidden, width) + _linear(width, hidden)


def _patch(vision: ConfigView, hidden: int, channels: str = "num_channels") -> int:
    return hidden * vision.size(channels) * vision.size("patch_size") ** 2


def _patches(vision: ConfigView) -> int:
    return (vision.size("image_size") // vision.size("patch_size")) ** 2


def _layers(vision: ConfigView) -> int:
    block = _plain_block(vision.size("hidden_size"), vision.size("intermediate_size"))
    return vision.size("num_hidden_layers") * block


def _gemma3(top: ConfigView, vision: ConfigView, text_hidden: int) -> int:
    """SigLIP without its pooling head, and one matrix (modeling_gemma3.py)."""
    hidden = vision.size("hidden_size")
    embeddings = _patch(vision, hidden) + hidden + _patches(vision) * hidden
    pooling = 0
    if vision.flag("vision_use_head"):
        width = vision.size("intermediate_size")
        pooling = hidden + 4 * _linear(hidden, hidden) + 2 * hidden
        pooling += _linear(hidden, width) + _linear(width, hidden)
    return embeddings + _layers(vision) + 2 * hidden + pooling + hidden * text_hidden + hidden


def _llava(top: ConfigView, vision: ConfigView, text_hidden: int) -> int:
    """CLIP and a projector of two linears (modeling_llava.py)."""
    hidden = vision.size("hidden_size")
    embeddings = hidden + _patch(vision, hidden) + (_patches(vision) + 1) * hidden
    bias = top.flag("multimodal_projector_bias")
    layers = top.get("vision_feature_layer")
    selected = len(layers) if isinstance(layers, list) else 1
    projector = _linear(hidden * selected, text_hidden, bias) + _linear(
        text_hidden, text_hidden, bias
    )
    return embeddings + _layers(vision) + 4 * hidden + projector


def _mistral3(top: ConfigView, vision: ConfigView, text_hidden: int) -> int:
    """Pixtral: RMSNorm, no biases, a gated MLP; a norm, a patch merger and two linears (modeling_mistral3.py)."""
    hidden, width = vision.size("hidden_size"), vision.size("intermediate_size")
    block = 2 * hidden + 4 * hidden * hidden + 3 * hidden * width
    bias = top.flag("multimodal_projector_bias")
    merged = hidden * top.size("spatial_merge_size") ** 2
    projector = hidden + merged * hidden
    projector += _linear(hidden, text_hidden, bias) + _linear(text_hidden, text_hidden, bias)
    return _patch(vision, hidden) + hidden + vision.size("num_hidden_layers") * block + projector


def _llama4(top: ConfigView, vision: ConfigView, text_hidden: int) -> int:
    """A ViT with a class token, a pixel-shuffle adapter and one matrix (modeling_llama4.py)."""
    hidden, width = vision.size("hidden_size"), vision.size("intermediate_size")
    embeddings = hidden + (_patches(vision) + 1) * hidden + _patch(vision, hidden)
    out = vision.size("projector_output_dim")
    adapter = width * vision.size("projector_input_dim") + out * out
    projector = vision.size("vision_output_dim") * text_hidden
    return embeddings + _layers(vision) + 4 * hidden + adapter + projector


def _mllama(top: ConfigView, vision: ConfigView, text_hidden: int) -> int:
    """Two stacks of layers, gated position tables for every tiling, one linear (modeling_mllama.py)."""
    hidden, width = vision.size("hidden_size"), vision.size("intermediate_size")
    block = 4 * hidden + 4 * hidden * hidden + _linear(hidden, width) + _linear(width, hidden)
    num_global = vision.size("num_global_layers")
    layers = vision.size("num_hidden_layers") * block + num_global * (block + 2)
    positions = _patches(vision) + 1
    ratios = vision.get("supported_aspect_ratios")
    rows = 1 + (len(ratios) if isinstance(ratios, list) else MLLAMA_ASPECT_RATIOS)
    tiles = vision.size("max_num_tiles")
    tables = 1 + positions * hidden + rows * tiles * positions * hidden
    tables += 2 * (1 + rows * tiles * hidden)
    embeddings = hidden + _patch(vision, hidden) + 4 * hidden
    return embeddings + tables + layers + _linear(vision.size("vision_output_dim"), text_hidden)


def _merger(hidden: int, merged: int, out: int, norm: int) -> int:
    return norm + _linear(merged, merged) + _linear(merged, out)


def _qwen3(top: ConfigView, vision: ConfigView, text_hidden: int) -> int:
    """A ViT with learned positions and one merger more for every deep-stacked layer (modeling_qwen3_vl.py)."""
    hidden, width = vision.size("hidden_size"), vision.size("intermediate_size")
    out, merged = vision.size("out_hidden_size"), hidden * vision.size("spatial_merge_size") ** 2
    patch = _patch(vision, hidden, "in_channels") * vision.size("temporal_patch_size") + hidden
    positions = vision.size("num_position_embeddings") * hidden
    blocks = vision.size("depth") * _plain_block(hidden, width)
    indexes = vision.get("deepstack_visual_indexes")
    num_deep = len(indexes) if isinstance(indexes, list) else QWEN3_DEEPSTACK
    mergers = _merger(hidden, merged, out, 2 * hidden)
    return (
        patch + positions + blocks + mergers + num_deep * _merger(hidden, merged, out, 2 * merged)
    )


def _qwen3_5(top: ConfigView, vision: ConfigView, text_hidden: int) -> int:
    """The tower of Qwen3-VL without mergers in between (modeling_qwen3_5.py)."""
    hidden = vision.size("hidden_size")
    merged = hidden * vision.size("spatial_merge_size") ** 2
    patch = _patch(vision, hidden, "in_channels") * vision.size("temporal_patch_size") + hidden
    positions = vision.size("num_position_embeddings") * hidden
    blocks = vision.size("depth") * _plain_block(hidden, vision.size("intermediate_size"))
    merger = _merger(hidden, merged, vision.size("out_hidden_size"), 2 * hidden)
    return patch + positions + blocks + merger


def _qwen2_5(top: ConfigView, vision: ConfigView, text_hidden: int) -> int:
    """RMSNorm, a gated MLP with biases and a merger (modeling_qwen2_5_vl.py)."""
    hidden, width = vision.size("hidden_size"), vision.size("intermediate_size")
    merged = hidden * vision.size("spatial_merge_size") ** 2
    patch = _patch(vision, hidden, "in_channels") * vision.size("temporal_patch_size")
    block = 2 * hidden + 4 * _linear(hidden, hidden)
    block += 2 * _linear(hidden, width) + _linear(width, hidden)
    return (
        patch
        + vision.size("depth") * block
        + _merger(hidden, merged, vision.size("out_hidden_size"), hidden)
    )


def _qwen2(top: ConfigView, vision: ConfigView, text_hidden: int) -> int:
    """LayerNorm, a plain MLP and a merger; `hidden_size` is the decoder's (modeling_qwen2_vl.py)."""
    hidden = vision.size("embed_dim")
    merged = hidden * vision.size("spatial_merge_size") ** 2
    patch = _patch(vision, hidden, "in_channels") * vision.size("temporal_patch_size")
    block = _plain_block(hidden, hidden * vision.size("mlp_ratio"))
    merger = _merger(hidden, merged, vision.size("hidden_size"), 2 * hidden)
    return patch + vision.size("depth") * block + merger


COUNTERS: dict[str, Counter] = {
    "gemma3": _gemma3,
    "llama4": _llama4,
    "llava": _llava,
    "mistral3": _mistral3,
    "mllama": _mllama,
    "qwen2_vl": _qwen2,
    "qwen2_5_vl": _qwen2_5,
    "qwen3_5": _qwen3_5,
    "qwen3_5_moe": _qwen3_5,
    "qwen3_vl": _qwen3,
    "qwen3_vl_moe": _qwen3,
}

KINDS: dict[str, tuple[Any, ...]] = {
    "gemma3": ("siglip_vision_model",),
    "llama4": ("llama4_vision_model",),
    "llava": ("clip_vision_model",),
    "mistral3": ("pixtral",),
    "mllama": ("mllama_vision_model",),
    "qwen2_vl": ("qwen2_vl", "qwen2_vl_vision"),
    "qwen2_5_vl": ("qwen2_5_vl", "qwen2_5_vl_vision"),
    "qwen3_5": ("qwen3_5", "qwen3_5_vision"),
    "qwen3_5_moe": ("qwen3_5_moe", "qwen3_5_moe_vision"),
    "qwen3_vl": ("qwen3_vl", "qwen3_vl_vision"),
    "qwen3_vl_moe": ("qwen3_vl_moe", "qwen3_vl_moe_vision", "qwen3_vl_vision"),
}
"""The `vision_config.model_type` that each count is for."""
