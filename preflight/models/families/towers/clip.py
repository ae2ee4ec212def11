"""CLIP and SigLIP, and the models that see through them: LLaVA, Gemma 3, PaliGemma, Idefics 3 and SmolVLM."""

from __future__ import annotations

from preflight.model import ModelUnit
from preflight.models.families.config_view import ConfigView
from preflight.models.families.layout import Tensors, linear, norm, other, split_attention
from preflight.models.families.towers.own_vits import pixtral
from preflight.models.families.towers.parts import (
    Layout,
    norm_alone,
    patch_conv,
    patches_of,
    table,
    tiled_sizes,
    tower_layers,
    tower_unit,
    two_linears,
    vectors,
)
from preflight.plan_parts import PROJECTOR, TOWER
from preflight.values import replace

MOST_TILES = {"llava_next": 5, "llava_onevision": 37}
"""Tiles of one image at most, the whole one among them: pinpoints of 2 x 2, and of 6 x 6
(configuration_llava_next.py, configuration_llava_onevision.py, 5.24.0)."""


def _clip_block(hidden: int, width: int) -> Tensors:
    return (
        *split_attention(hidden, 1, 1, hidden, True, True, out_name="out_proj"),
        *vectors("layer_norm1", hidden),
        *linear("mlp.fc1", width, hidden, True),
        *linear("mlp.fc2", hidden, width, True),
        *vectors("layer_norm2", hidden),
    )


def _clip(vision: ConfigView, path: str, num_unread: int) -> tuple[ModelUnit, ...]:
    """CLIP (modeling_clip.py): projectors read a layer's output, and what is behind that gets no gradient."""
    hidden = vision.size("hidden_size")
    every = tower_layers(vision, f"{path}.encoder.layers", _clip_block)
    num_unread = min(num_unread, every.count - 1)
    layers = [replace(every, count=every.count - num_unread)]
    if num_unread:
        layers.append(replace(every, tensors=_unread(every.tensors), count=num_unread))
    return (
        tower_unit(
            TOWER,
            f"{path}.embeddings",
            *other("class_embedding", hidden),
            *patch_conv("patch_embedding", vision, hidden, False),
            *table("position_embedding.weight", patches_of(vision) + 1, hidden),
        ),
        tower_unit(TOWER, f"{path}.pre_layrnorm", *norm_alone(hidden)),
        *layers,
        tower_unit(TOWER, f"{path}.post_layernorm", *_unread(norm_alone(hidden))),
    )


def _unread(tensors: Tensors) -> Tensors:
    return tuple(replace(tensor, gets_gradient=False) for tensor in tensors)


def _siglip(vision: ConfigView, path: str, has_head: bool) -> tuple[ModelUnit, ...]:
    """SigLIP (modeling_siglip.py, modeling_idefics3.py); where it has a pooling head, nobody reads that."""
    hidden, width = vision.size("hidden_size"), vision.size("intermediate_size")
    units = [
        tower_unit(
            TOWER,
            f"{path}.embeddings",
            *patch_conv("patch_embedding", vision, hidden, True),
            *table("position_embedding.weight", patches_of(vision), hidden),
        ),
        tower_layers(vision, f"{path}.encoder.layers", _clip_block),
        tower_unit(TOWER, f"{path}.post_layernorm", *norm_alone(hidden)),
    ]
    if has_head:
        units.append(
            tower_unit(
                TOWER,
                f"{path}.head",
                *other("probe", 1, 1, hidden),
                *other("attention.in_proj_weight", 3 * hidden, hidden),
                *other("attention.in_proj_bias", 3 * hidden),
                *linear("attention.out_proj", hidden, hidden, True),
                *vectors("layernorm", hidden),
                *linear("mlp.fc1", width, hidden, True),
                *linear("mlp.fc2", hidden, width, True),
            )
        )
    return tuple(units)


def _has_head(vision: ConfigView) -> bool:
    """Tell whether SigLIP has its head: it does unless the file says no (configuration_siglip.py)."""
    return vision.values.get("vision_use_head", bool(vision.values)) is not False


def gemma3(top: ConfigView, vision: ConfigView, text_hidden: int) -> Layout:
    """SigLIP, a norm and one matrix behind an average over squares of patches (modeling_gemma3.py)."""
    hidden = vision.size("hidden_size")
    projector = tower_unit(
        PROJECTOR,
        "model.multi_modal_projector",
        *other("mm_input_projection_weight", hidden, text_hidden),
        *norm("mm_soft_emb_norm", hidden),
    )
    units = _siglip(vision, "model.vision_tower", vision.flag("vision_use_head"))
    patches = patches_of(vision)
    sizes = tiled_sizes("gemma3", vision, text_hidden, patches, top.size("mm_tokens_per_image"))
    return (*units, projector), sizes


def paligemma(top: ConfigView, vision: ConfigView, text_hidden: int) -> Layout:
    """SigLIP without its head, and one linear (modeling_paligemma.py)."""
    out = vision.optional_size("projection_dim") or top.size("projection_dim")
    projector = tower_unit(
        PROJECTOR,
        "model.multi_modal_projector",
        *linear("linear", out, vision.size("hidden_size"), True),
    )
    units = _siglip(vision, "model.vision_tower", _has_head(vision))
    patches = patches_of(vision)
    return (*units, projector), tiled_sizes("paligemma", vision, text_hidden, patches, patches)


def llava(top: ConfigView, vision: ConfigView, text_hidden: int) -> Layout:
    """CLIP, SigLIP or Pixtral and a projector of two linears (modeling_llava.py, _llava_next.py, _llava_onevision.py)."""
    hidden = vision.size("hidden_size")
    kind = vision.values.get("model_type")
    is_clip = kind == "clip_vision_model" or (kind is None and top.model_type != "llava_onevision")
    selected = top.get("vision_feature_layer")
    path, patches = "model.vision_tower", patches_of(vision)
    if is_clip:
        units = _clip(vision, path, max(0, -selected - 1) if isinstance(selected, int) else 0)
    elif kind == "pixtral":
        units = pixtral(vision, path)
    else:
        units = _siglip(vision, path, _has_head(vision))
    num_selected = len(selected) if isinstance(selected, list) else 1
    projector = two_linears(
        "model.multi_modal_projector",
        hidden * num_selected,
        text_hidden,
        top.flag("multimodal_projector_bias"),
    )
    if top.model_type != "llava":
        newline = tower_unit(PROJECTOR, "model", *other("image_newline", text_hidden))
        units = (newline, *units)
    # what is taken is the output of the last layer but one, so that the last layer gets no gradient
    is_traced = num_selected == 1
    if kind == "pixtral":  # a token for every patch, of images of any size
        whole = tiled_sizes("llava_pixtral", vision, text_hidden, 0, 0)
        sizes = replace(whole, tile_patches=0, patches_per_token=1)
        return (*units, projector), sizes if is_traced and selected == -1 else None
    sizes = tiled_sizes(
        "llava" if is_clip else "llava_siglip",
        vision,
        text_hidden,
        patches + is_clip,
        patches,
        MOST_TILES.get(top.model_type, 1),
    )
    return (*units, projector), sizes if is_traced else None


def idefics3(top: ConfigView, vision: ConfigView, text_hidden: int) -> Layout:
    """SigLIP's layers, and one matrix behind a pixel shuffle (modeling_idefics3.py, modeling_smolvlm.py)."""
    square = top.size("scale_factor") ** 2
    projector = tower_unit(
        PROJECTOR,
        "model.connector.modality_projection",
        *linear("proj", text_hidden, vision.size("hidden_size") * square),
    )
    units = _siglip(vision, "model.vision_model", False)
    patches = patches_of(vision)
    sizes = tiled_sizes("idefics3", vision, text_hidden, patches, patches // square)
    return (*units, projector), sizes
