"""A vision tower and its projector, laid out from the config: every parameter, and the sizes that its costs hang on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from preflight.model import EMBEDDING, NORM, ModelUnit, ParameterTensor, Tower
from preflight.models.families.config_view import ConfigView
from preflight.models.families.layout import (
    Tensors,
    gated_mlp,
    linear,
    norm,
    other,
    split_attention,
)

Layout = tuple[tuple[ModelUnit, ...], Tower | None]
LayOut = Callable[[ConfigView, ConfigView, int], Layout]

TOWER, PROJECTOR = "tower", "projector"

QWEN3_DEEPSTACK = 3
"""Entries of `deepstack_visual_indexes` where the file has none (configuration_qwen3_vl.py)."""

MLLAMA_ASPECT_RATIOS = 8
"""Entries of `supported_aspect_ratios` where the file has none (configuration_mllama.py)."""

MOST_TILES = {"llava_next": 5, "llava_onevision": 37}
"""Tiles of one image at most, the whole one among them: pinpoints of 2 x 2, and of 6 x 6
(configuration_llava_next.py, configuration_llava_onevision.py, 5.24.0)."""


def lay_out_tower(top: ConfigView, text_hidden: int) -> tuple[Layout | None, ConfigView]:
    """Return the units of everything but the decoder with the tower's sizes, and the view they were read through.

    The layout is None for a tower of a kind that nobody laid out here; the sizes are where nobody traced it.
    """
    section = top.values.get("vision_config")
    vision = ConfigView(
        section if isinstance(section, Mapping) else {},
        f"{top.model_type}.vision",
        top.where,
        "vision_config.",
    )
    kind = vision.values.get("model_type")
    lay_out = LAYOUTS.get(top.model_type)
    if lay_out is None or (kind is not None and kind not in KINDS[top.model_type]):
        return None, vision
    return lay_out(top, vision, text_hidden), vision


def _unit(role: str, path: str, *tensors: ParameterTensor, count: int = 1) -> ModelUnit:
    return ModelUnit(path, role, tensors, count)


def _vectors(name: str, hidden: int, bias: bool = True) -> Tensors:
    return norm(name, hidden, bias=bias)


def _table(name: str, *shape: int) -> Tensors:
    return (ParameterTensor(name, shape, EMBEDDING),)


def _side(vision: ConfigView, name: str) -> int:
    """Return a size that some files give for both sides."""
    value = vision.get(name)
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], int):
        return max(1, value[0])
    return vision.size(name)


def _patches(vision: ConfigView) -> int:
    return (_side(vision, "image_size") // _side(vision, "patch_size")) ** 2


def _patch_values(vision: ConfigView) -> int:
    frames = vision.count("temporal_patch_size") or 1
    channels = vision.optional_size("in_channels") or vision.size("num_channels")
    return channels * frames * _side(vision, "patch_size") ** 2


def _conv(name: str, vision: ConfigView, hidden: int, bias: bool) -> Tensors:
    """Return the convolution that makes a vector of a patch; of two frames' patches where films are taken."""
    frames = vision.count("temporal_patch_size")
    patch = _side(vision, "patch_size")
    channels = vision.size("in_channels" if frames else "num_channels")
    shape = (hidden, channels, *((frames,) if frames else ()), patch, patch)
    return other(f"{name}.weight", *shape) + (other(f"{name}.bias", hidden) if bias else ())


def _clip_block(hidden: int, width: int) -> Tensors:
    return (
        *split_attention(hidden, 1, 1, hidden, True, True, out_name="out_proj"),
        *_vectors("layer_norm1", hidden),
        *linear("mlp.fc1", width, hidden, True),
        *linear("mlp.fc2", hidden, width, True),
        *_vectors("layer_norm2", hidden),
    )


def _clip(vision: ConfigView, path: str, num_unread: int) -> tuple[ModelUnit, ...]:
    """CLIP (modeling_clip.py): projectors read a layer's output, and what is behind that gets no gradient."""
    hidden = vision.size("hidden_size")
    every = _layers(vision, f"{path}.encoder.layers", _clip_block)
    num_unread = min(num_unread, every.count - 1)
    layers = [replace(every, count=every.count - num_unread)]
    if num_unread:
        layers.append(replace(every, tensors=_unread(every.tensors), count=num_unread))
    return (
        _unit(
            TOWER,
            f"{path}.embeddings",
            *other("class_embedding", hidden),
            *_conv("patch_embedding", vision, hidden, False),
            *_table("position_embedding.weight", _patches(vision) + 1, hidden),
        ),
        _unit(TOWER, f"{path}.pre_layrnorm", *_norm_alone(hidden)),
        *layers,
        _unit(TOWER, f"{path}.post_layernorm", *_unread(_norm_alone(hidden))),
    )


def _unread(tensors: Tensors) -> Tensors:
    return tuple(replace(tensor, gets_gradient=False) for tensor in tensors)


def _siglip(vision: ConfigView, path: str, has_head: bool) -> tuple[ModelUnit, ...]:
    """SigLIP (modeling_siglip.py, modeling_idefics3.py); where it has a pooling head, nobody reads that."""
    hidden, width = vision.size("hidden_size"), vision.size("intermediate_size")
    units = [
        _unit(
            TOWER,
            f"{path}.embeddings",
            *_conv("patch_embedding", vision, hidden, True),
            *_table("position_embedding.weight", _patches(vision), hidden),
        ),
        _layers(vision, f"{path}.encoder.layers", _clip_block),
        _unit(TOWER, f"{path}.post_layernorm", *_norm_alone(hidden)),
    ]
    if has_head:
        units.append(
            _unit(
                TOWER,
                f"{path}.head",
                *other("probe", 1, 1, hidden),
                *other("attention.in_proj_weight", 3 * hidden, hidden),
                *other("attention.in_proj_bias", 3 * hidden),
                *linear("attention.out_proj", hidden, hidden, True),
                *_vectors("layernorm", hidden),
                *linear("mlp.fc1", width, hidden, True),
                *linear("mlp.fc2", hidden, width, True),
            )
        )
    return tuple(units)


def _norm_alone(hidden: int, bias: bool = True) -> Tensors:
    names = ("weight", "bias") if bias else ("weight",)
    return tuple(ParameterTensor(name, (hidden,), NORM) for name in names)


def _layers(vision: ConfigView, path: str, block: Callable[[int, int], Tensors]) -> ModelUnit:
    tensors = block(vision.size("hidden_size"), vision.size("intermediate_size"))
    return _unit(TOWER, f"{path}.*", *tensors, count=vision.size("num_hidden_layers"))


def _sizes(
    kind: str,
    vision: ConfigView,
    text_hidden: int,
    tile_rows: int,
    tile_tokens: int,
    most_tiles: int = 1,
) -> Tower:
    """Return the sizes of a tower whose images are cut into tiles of one size."""
    return Tower(
        kind=kind,
        depth=vision.size("num_hidden_layers"),
        hidden_size=vision.size("hidden_size"),
        num_heads=vision.size("num_attention_heads"),
        intermediate_size=vision.size("intermediate_size"),
        patch_values=_patch_values(vision),
        token_size=text_hidden,
        tile_rows=tile_rows,
        tile_patches=_patches(vision),
        tile_tokens=tile_tokens,
        most_tiles=most_tiles,
    )


def _two_linears(
    path: str, num_in: int, hidden: int, bias: bool, *before: ParameterTensor
) -> ModelUnit:
    return _unit(
        PROJECTOR,
        path,
        *before,
        *linear("linear_1", hidden, num_in, bias),
        *linear("linear_2", hidden, hidden, bias),
    )


def _gemma3(top: ConfigView, vision: ConfigView, text_hidden: int) -> Layout:
    """SigLIP, a norm and one matrix behind an average over squares of patches (modeling_gemma3.py)."""
    hidden = vision.size("hidden_size")
    projector = _unit(
        PROJECTOR,
        "model.multi_modal_projector",
        *other("mm_input_projection_weight", hidden, text_hidden),
        *norm("mm_soft_emb_norm", hidden),
    )
    units = _siglip(vision, "model.vision_tower", vision.flag("vision_use_head"))
    patches = _patches(vision)
    sizes = _sizes("gemma3", vision, text_hidden, patches, top.size("mm_tokens_per_image"))
    return (*units, projector), sizes


def _paligemma(top: ConfigView, vision: ConfigView, text_hidden: int) -> Layout:
    """SigLIP without its head, and one linear (modeling_paligemma.py)."""
    out = vision.optional_size("projection_dim") or top.size("projection_dim")
    projector = _unit(
        PROJECTOR,
        "model.multi_modal_projector",
        *linear("linear", out, vision.size("hidden_size"), True),
    )
    units = _siglip(vision, "model.vision_tower", _has_head(vision))
    patches = _patches(vision)
    return (*units, projector), _sizes("paligemma", vision, text_hidden, patches, patches)


def _has_head(vision: ConfigView) -> bool:
    """Tell whether SigLIP has its head: it does unless the file says no (configuration_siglip.py)."""
    return vision.values.get("vision_use_head", bool(vision.values)) is not False


def _llava(top: ConfigView, vision: ConfigView, text_hidden: int) -> Layout:
    """CLIP or SigLIP and a projector of two linears (modeling_llava.py, _llava_next.py, _llava_onevision.py)."""
    hidden = vision.size("hidden_size")
    kind = vision.values.get("model_type")
    is_clip = kind == "clip_vision_model" or (kind is None and top.model_type != "llava_onevision")
    selected = top.get("vision_feature_layer")
    path, patches = "model.vision_tower", _patches(vision)
    if is_clip:
        units = _clip(vision, path, max(0, -selected - 1) if isinstance(selected, int) else 0)
    else:
        units = _siglip(vision, path, _has_head(vision))
    num_selected = len(selected) if isinstance(selected, list) else 1
    projector = _two_linears(
        "model.multi_modal_projector",
        hidden * num_selected,
        text_hidden,
        top.flag("multimodal_projector_bias"),
    )
    if top.model_type != "llava":
        newline = _unit(PROJECTOR, "model", *other("image_newline", text_hidden))
        units = (newline, *units)
    # what is taken is the output of the last layer but one, so that the last layer gets no gradient
    is_traced = num_selected == 1
    sizes = _sizes(
        "llava" if is_clip else "llava_siglip",
        vision,
        text_hidden,
        patches + is_clip,
        patches,
        MOST_TILES.get(top.model_type, 1),
    )
    return (*units, projector), sizes if is_traced else None


def _idefics3(top: ConfigView, vision: ConfigView, text_hidden: int) -> Layout:
    """SigLIP's layers, and one matrix behind a pixel shuffle (modeling_idefics3.py, modeling_smolvlm.py)."""
    square = top.size("scale_factor") ** 2
    projector = _unit(
        PROJECTOR,
        "model.connector.modality_projection",
        *linear("proj", text_hidden, vision.size("hidden_size") * square),
    )
    units = _siglip(vision, "model.vision_model", False)
    patches = _patches(vision)
    sizes = _sizes("idefics3", vision, text_hidden, patches, patches // square)
    return (*units, projector), sizes


def _internvl(top: ConfigView, vision: ConfigView, text_hidden: int) -> Layout:
    """InternViT with its scales of residuals, a norm and two linears behind a pixel shuffle (modeling_internvl.py)."""
    bias = vision.flag("attention_bias")
    has_norms = vision.flag("use_qk_norm")
    is_rms = vision.get("norm_type") == "rms_norm"

    def block(hidden: int, width: int) -> Tensors:
        return (
            *other("lambda_1", hidden),
            *other("lambda_2", hidden),
            *split_attention(
                hidden, 1, 1, hidden, bias, True, name="attention", out_name="projection_layer"
            ),
            *(norm("attention.q_norm", hidden) if has_norms else ()),
            *(norm("attention.k_norm", hidden) if has_norms else ()),
            *linear("mlp.fc1", width, hidden, True),
            *linear("mlp.fc2", hidden, width, True),
            *_vectors("layernorm_before", hidden, not is_rms),
            *_vectors("layernorm_after", hidden, not is_rms),
        )

    hidden, path, patches = vision.size("hidden_size"), "model.vision_tower", _patches(vision)
    merged = hidden * round(1 / _ratio(top)) ** 2
    units = [
        _unit(
            TOWER,
            f"{path}.embeddings",
            *other("cls_token", 1, 1, hidden),
            *other("position_embeddings", 1, patches + 1, hidden),
            *_conv("patch_embeddings.projection", vision, hidden, True),
        ),
        _layers(vision, f"{path}.encoder.layer", block),
    ]
    if not vision.flag("use_mean_pooling"):
        units.append(_unit(TOWER, f"{path}.layernorm", *_norm_alone(hidden)))
    projector = _two_linears(
        "model.multi_modal_projector", merged, text_hidden, True, *_vectors("layer_norm", merged)
    )
    tokens = patches // round(1 / _ratio(top)) ** 2
    is_traced = not has_norms and not is_rms and vision.flag("use_mean_pooling")
    sizes = _sizes("internvl", vision, text_hidden, patches + 1, tokens)
    return (*units, projector), sizes if is_traced else None


def _ratio(top: ConfigView) -> float:
    ratio = top.get("downsample_ratio")
    return float(ratio) if isinstance(ratio, (int, float)) and 0 < ratio <= 1 else 0.5


def _mistral3(top: ConfigView, vision: ConfigView, text_hidden: int) -> Layout:
    """Pixtral: RMSNorm, no biases, a gated MLP; a norm, a patch merger and two linears (modeling_mistral3.py)."""

    def block(hidden: int, width: int) -> Tensors:
        return (
            *norm("attention_norm", hidden),
            *gated_mlp("feed_forward", width, hidden),
            *split_attention(hidden, 1, 1, hidden, name="attention"),
            *norm("ffn_norm", hidden),
        )

    hidden, path = vision.size("hidden_size"), "model.vision_tower"
    bias, merge = top.flag("multimodal_projector_bias"), top.size("spatial_merge_size")
    projector = _two_linears(
        "model.multi_modal_projector",
        hidden,
        text_hidden,
        bias,
        *norm("norm", hidden),
        *linear("patch_merger.merging_layer", hidden, hidden * merge**2),
    )
    units = (
        _unit(TOWER, path, *_conv("patch_conv", vision, hidden, False)),
        _unit(TOWER, f"{path}.ln_pre", *_norm_alone(hidden, False)),
        _layers(vision, f"{path}.transformer.layers", block),
    )
    sizes = replace(
        _sizes("mistral3", vision, text_hidden, 0, 0), tile_patches=0, patches_per_token=merge**2
    )
    return (*units, projector), sizes


def _llama4(top: ConfigView, vision: ConfigView, text_hidden: int) -> Layout:
    """A ViT with a class token, a pixel-shuffle adapter and one matrix (modeling_llama4.py); not traced."""
    hidden, width = vision.size("hidden_size"), vision.size("intermediate_size")
    out = vision.size("projector_output_dim")

    def block(hidden: int, width: int) -> Tensors:
        return (
            *split_attention(hidden, 1, 1, hidden, True, True),
            *linear("mlp.fc1", width, hidden, True),
            *linear("mlp.fc2", hidden, width, True),
            *_vectors("input_layernorm", hidden),
            *_vectors("post_attention_layernorm", hidden),
        )

    units = (
        _unit(
            TOWER,
            "vision_model",
            *other("class_embedding", hidden),
            *other("positional_embedding_vlm", _patches(vision) + 1, hidden),
            *linear("patch_embedding.linear", hidden, _patch_values(vision)),
            *_vectors("layernorm_pre", hidden),
            *_vectors("layernorm_post", hidden),
            *linear("vision_adapter.mlp.fc1", vision.size("projector_input_dim"), width),
            *linear("vision_adapter.mlp.fc2", out, out),
        ),
        _layers(vision, "vision_model.model.layers", block),
        _unit(
            PROJECTOR,
            "multi_modal_projector",
            *linear("linear_1", text_hidden, vision.size("vision_output_dim")),
        ),
    )
    return units, None


def _mllama(top: ConfigView, vision: ConfigView, text_hidden: int) -> Layout:
    """Two stacks of layers, gated position tables for every tiling, one linear (modeling_mllama.py); not traced."""
    hidden, width = vision.size("hidden_size"), vision.size("intermediate_size")
    path = "model.vision_model"
    positions = _patches(vision) + 1
    ratios = vision.get("supported_aspect_ratios")
    rows = 1 + (len(ratios) if isinstance(ratios, list) else MLLAMA_ASPECT_RATIOS)
    tiles = vision.size("max_num_tiles")
    block = (
        *split_attention(hidden, 1, 1, hidden),
        *linear("mlp.fc1", width, hidden, True),
        *linear("mlp.fc2", hidden, width, True),
        *_vectors("input_layernorm", hidden),
        *_vectors("post_attention_layernorm", hidden),
    )
    gates = (*other("gate_attn", 1), *other("gate_ffn", 1))
    units = (
        _unit(
            TOWER,
            path,
            *other("class_embedding", hidden),
            *_conv("patch_embedding", vision, hidden, False),
            *other("gated_positional_embedding.gate", 1),
            *other("gated_positional_embedding.embedding", positions, hidden),
            *_table(
                "gated_positional_embedding.tile_embedding.weight", rows, tiles * positions * hidden
            ),
            *_vectors("layernorm_pre", hidden),
            *_vectors("layernorm_post", hidden),
            *(
                tensor
                for name in ("pre", "post")
                for tensor in (
                    *other(f"{name}_tile_positional_embedding.gate", 1),
                    *_table(
                        f"{name}_tile_positional_embedding.embedding.weight", rows, tiles * hidden
                    ),
                )
            ),
        ),
        _unit(
            TOWER, f"{path}.transformer.layers.*", *block, count=vision.size("num_hidden_layers")
        ),
        _unit(
            TOWER,
            f"{path}.global_transformer.layers.*",
            *gates,
            *block,
            count=vision.size("num_global_layers"),
        ),
        _unit(
            PROJECTOR,
            "model.multi_modal_projector",
            *(
                ParameterTensor(tensor.name[1:], tensor.shape, tensor.kind)
                for tensor in linear("", text_hidden, vision.size("vision_output_dim"), True)
            ),
        ),
    )
    return units, None


def _qwen_sizes(
    kind: str, vision: ConfigView, hidden: int, width: int, out: int, num_deep: int = 0
) -> Tower:
    return Tower(
        kind=kind,
        depth=vision.size("depth"),
        hidden_size=hidden,
        num_heads=vision.size("num_heads"),
        intermediate_size=width,
        patch_values=_patch_values(vision),
        token_size=out,
        patches_per_token=vision.size("spatial_merge_size") ** 2,
        num_deep=num_deep,
    )


def _qwen_block(hidden: int, up: str, down: str, width: int) -> Tensors:
    return (
        *_vectors("norm1", hidden),
        *_vectors("norm2", hidden),
        *linear("attn.qkv", 3 * hidden, hidden, True),
        *linear("attn.proj", hidden, hidden, True),
        *linear(f"mlp.{up}", width, hidden, True),
        *linear(f"mlp.{down}", hidden, width, True),
    )


def _qwen3(top: ConfigView, vision: ConfigView, text_hidden: int) -> Layout:
    """A ViT with learned positions and one merger more for every deep-stacked layer (modeling_qwen3_vl.py)."""
    indexes = vision.get("deepstack_visual_indexes")
    num_deep = len(indexes) if isinstance(indexes, list) else QWEN3_DEEPSTACK
    return _with_positions(vision, num_deep)


def _qwen3_5(top: ConfigView, vision: ConfigView, text_hidden: int) -> Layout:
    """The tower of Qwen3-VL without mergers in between (modeling_qwen3_5.py)."""
    return _with_positions(vision, 0)


def _with_positions(vision: ConfigView, num_deep: int) -> Layout:
    hidden, width = vision.size("hidden_size"), vision.size("intermediate_size")
    out, merged = vision.size("out_hidden_size"), hidden * vision.size("spatial_merge_size") ** 2
    path = "model.visual"
    positions = vision.size("num_position_embeddings")

    def merger(size: int) -> Tensors:
        return (
            *_vectors("norm", size),
            *linear("linear_fc1", merged, merged, True),
            *linear("linear_fc2", out, merged, True),
        )

    units = [
        _unit(
            TOWER,
            path,
            *_conv("patch_embed.proj", vision, hidden, True),
            *_table("pos_embed.weight", positions, hidden),
        ),
        _unit(
            TOWER,
            f"{path}.blocks.*",
            *_qwen_block(hidden, "linear_fc1", "linear_fc2", width),
            count=vision.size("depth"),
        ),
        _unit(PROJECTOR, f"{path}.merger", *merger(hidden)),
    ]
    if num_deep:
        deep = f"{path}.deepstack_merger_list.*"
        units.append(_unit(PROJECTOR, deep, *merger(merged), count=num_deep))
    return tuple(units), _qwen_sizes("qwen3_vl", vision, hidden, width, out, num_deep)


def _qwen_merger(path: str, hidden: int, merge: int, out: int, bias: bool) -> ModelUnit:
    merged = hidden * merge**2
    return _unit(
        PROJECTOR,
        f"{path}.merger",
        *_vectors("ln_q", hidden, bias),
        *linear("mlp.0", merged, merged, True),
        *linear("mlp.2", out, merged, True),
    )


def _qwen2_5(top: ConfigView, vision: ConfigView, text_hidden: int) -> Layout:
    """RMSNorm, a gated MLP with biases, windows and a merger (modeling_qwen2_5_vl.py)."""
    hidden, width = vision.size("hidden_size"), vision.size("intermediate_size")
    out, path = vision.size("out_hidden_size"), "model.visual"
    block = (
        *norm("norm1", hidden),
        *norm("norm2", hidden),
        *linear("attn.qkv", 3 * hidden, hidden, True),
        *linear("attn.proj", hidden, hidden, True),
        *gated_mlp("mlp", width, hidden, True),
    )
    units = (
        _unit(TOWER, path, *_conv("patch_embed.proj", vision, hidden, False)),
        _unit(TOWER, f"{path}.blocks.*", *block, count=vision.size("depth")),
        _qwen_merger(path, hidden, vision.size("spatial_merge_size"), out, False),
    )
    return units, _qwen_sizes("qwen2_5_vl", vision, hidden, width, out)


def _qwen2(top: ConfigView, vision: ConfigView, text_hidden: int) -> Layout:
    """LayerNorm, a plain MLP and a merger; `hidden_size` is the decoder's (modeling_qwen2_vl.py)."""
    hidden, out, path = vision.size("embed_dim"), vision.size("hidden_size"), "model.visual"
    ratio = vision.get("mlp_ratio")
    width = int(hidden * ratio) if isinstance(ratio, (int, float)) else vision.size("mlp_ratio")
    units = (
        _unit(TOWER, path, *_conv("patch_embed.proj", vision, hidden, False)),
        _unit(
            TOWER,
            f"{path}.blocks.*",
            *_qwen_block(hidden, "fc1", "fc2", width),
            count=vision.size("depth"),
        ),
        _qwen_merger(path, hidden, vision.size("spatial_merge_size"), out, True),
    )
    return units, _qwen_sizes("qwen2_vl", vision, hidden, width, out)


LAYOUTS: dict[str, LayOut] = {
    "gemma3": _gemma3,
    "idefics3": _idefics3,
    "internvl": _internvl,
    "llama4": _llama4,
    "llava": _llava,
    "llava_next": _llava,
    "llava_onevision": _llava,
    "mistral3": _mistral3,
    "mllama": _mllama,
    "paligemma": _paligemma,
    "qwen2_vl": _qwen2,
    "qwen2_5_vl": _qwen2_5,
    "qwen3_5": _qwen3_5,
    "qwen3_5_moe": _qwen3_5,
    "qwen3_vl": _qwen3,
    "qwen3_vl_moe": _qwen3,
    "smolvlm": _idefics3,
}

SEES = ("clip_vision_model", "siglip_vision_model")
KINDS: dict[str, tuple[Any, ...]] = {
    "gemma3": ("siglip_vision_model",),
    "idefics3": ("idefics3", "idefics3_vision"),
    "internvl": ("internvl_vision",),
    "llama4": ("llama4_vision_model",),
    "llava": SEES,
    "llava_next": SEES,
    "llava_onevision": SEES,
    "mistral3": ("pixtral",),
    "mllama": ("mllama_vision_model",),
    "paligemma": ("siglip_vision_model",),
    "qwen2_vl": ("qwen2_vl", "qwen2_vl_vision"),
    "qwen2_5_vl": ("qwen2_5_vl", "qwen2_5_vl_vision"),
    "qwen3_5": ("qwen3_5", "qwen3_5_vision"),
    "qwen3_5_moe": ("qwen3_5_moe", "qwen3_5_moe_vision"),
    "qwen3_vl": ("qwen3_vl", "qwen3_vl_vision"),
    "qwen3_vl_moe": ("qwen3_vl_moe", "qwen3_vl_moe_vision", "qwen3_vl_vision"),
    "smolvlm": ("smolvlm", "smolvlm_vision"),
}
"""The `vision_config.model_type` that each layout is for."""
