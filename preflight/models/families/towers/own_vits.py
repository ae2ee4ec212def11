"""Towers that one family has: InternViT, Pixtral, Gemma 4's, Llama 4's and Llama 3.2 Vision's."""

from __future__ import annotations

from preflight.model import ModelUnit, ParameterTensor, Tower
from preflight.models.families.config_view import ConfigView
from preflight.models.families.layout import (
    Tensors,
    gated_mlp,
    linear,
    norm,
    other,
    split_attention,
)
from preflight.models.families.towers.parts import (
    Layout,
    norm_alone,
    patch_conv,
    patch_values,
    patches_of,
    table,
    tiled_sizes,
    tower_layers,
    tower_unit,
    two_linears,
    vectors,
)
from preflight.plan_parts import PROJECTOR, TOWER
from preflight.units import ceil_div
from preflight.values import replace

GEMMA4_TOKENS = 280
"""Tokens of an image where nothing says how many (processing_gemma4.py, image_processing_gemma4.py, 5.24.0)."""
MLLAMA_ASPECT_RATIOS = 8
"""Entries of `supported_aspect_ratios` where the file has none (configuration_mllama.py)."""
MLLAMA_TAKEN = (3, 7, 15, 23, 30)
"""Layers whose outputs are features beside the last one's, where the file says none (configuration_mllama.py, 5.24.0)."""
MLLAMA_ROWS = 8
"""A tile is padded to whole eights of rows (modeling_mllama.py MllamaVisionModel.forward num_padding_patches, 5.24.0)."""


def internvl(top: ConfigView, vision: ConfigView, text_hidden: int) -> Layout:
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
            *vectors("layernorm_before", hidden, not is_rms),
            *vectors("layernorm_after", hidden, not is_rms),
        )

    hidden, path, patches = vision.size("hidden_size"), "model.vision_tower", patches_of(vision)
    merged = hidden * round(1 / _ratio(top)) ** 2
    units = [
        tower_unit(
            TOWER,
            f"{path}.embeddings",
            *other("cls_token", 1, 1, hidden),
            *other("position_embeddings", 1, patches + 1, hidden),
            *patch_conv("patch_embeddings.projection", vision, hidden, True),
        ),
        tower_layers(vision, f"{path}.encoder.layer", block),
    ]
    if not vision.flag("use_mean_pooling"):
        units.append(tower_unit(TOWER, f"{path}.layernorm", *norm_alone(hidden)))
    projector = two_linears(
        "model.multi_modal_projector", merged, text_hidden, True, *vectors("layer_norm", merged)
    )
    tokens = patches // round(1 / _ratio(top)) ** 2
    is_traced = has_norms is is_rms and vision.flag("use_mean_pooling")
    kind = "internvl_rms" if is_rms else "internvl"
    sizes = tiled_sizes(kind, vision, text_hidden, patches + 1, tokens)
    return (*units, projector), sizes if is_traced else None


def _ratio(top: ConfigView) -> float:
    ratio = top.get("downsample_ratio")
    return float(ratio) if isinstance(ratio, (int, float)) and 0 < ratio <= 1 else 0.5


def mistral3(top: ConfigView, vision: ConfigView, text_hidden: int) -> Layout:
    """Pixtral; a norm, a patch merger and two linears (modeling_mistral3.py)."""
    hidden = vision.size("hidden_size")
    bias, merge = top.flag("multimodal_projector_bias"), top.size("spatial_merge_size")
    projector = two_linears(
        "model.multi_modal_projector",
        hidden,
        text_hidden,
        bias,
        *norm("norm", hidden),
        *linear("patch_merger.merging_layer", hidden, hidden * merge**2),
    )
    sizes = replace(
        tiled_sizes("mistral3", vision, text_hidden, 0, 0),
        tile_patches=0,
        patches_per_token=merge**2,
    )
    return (*pixtral(vision, "model.vision_tower"), projector), sizes


def pixtral(vision: ConfigView, path: str) -> tuple[ModelUnit, ...]:
    """Pixtral: RMSNorm, no biases, a gated MLP (modeling_pixtral.py)."""

    def block(hidden: int, width: int) -> Tensors:
        return (
            *norm("attention_norm", hidden),
            *gated_mlp("feed_forward", width, hidden),
            *split_attention(hidden, 1, 1, hidden, name="attention"),
            *norm("ffn_norm", hidden),
        )

    hidden = vision.size("hidden_size")
    return (
        tower_unit(TOWER, path, *patch_conv("patch_conv", vision, hidden, False)),
        tower_unit(TOWER, f"{path}.ln_pre", *norm_alone(hidden, False)),
        tower_layers(vision, f"{path}.transformer.layers", block),
    )


def llama4(top: ConfigView, vision: ConfigView, text_hidden: int) -> Layout:
    """A ViT with a class token, a pixel-shuffle adapter and one matrix (modeling_llama4.py); not traced."""
    hidden, width = vision.size("hidden_size"), vision.size("intermediate_size")
    out = vision.size("projector_output_dim")

    def block(hidden: int, width: int) -> Tensors:
        return (
            *split_attention(hidden, 1, 1, hidden, True, True),
            *linear("mlp.fc1", width, hidden, True),
            *linear("mlp.fc2", hidden, width, True),
            *vectors("input_layernorm", hidden),
            *vectors("post_attention_layernorm", hidden),
        )

    units = (
        tower_unit(
            TOWER,
            "vision_model",
            *other("class_embedding", hidden),
            *other("positional_embedding_vlm", patches_of(vision) + 1, hidden),
            *linear("patch_embedding.linear", hidden, patch_values(vision)),
            *vectors("layernorm_pre", hidden),
            *vectors("layernorm_post", hidden),
            *linear("vision_adapter.mlp.fc1", vision.size("projector_input_dim"), width),
            *linear("vision_adapter.mlp.fc2", out, out),
        ),
        tower_layers(vision, "vision_model.model.layers", block),
        tower_unit(
            PROJECTOR,
            "multi_modal_projector",
            *linear("linear_1", text_hidden, vision.size("vision_output_dim")),
        ),
    )
    return units, None


def gemma4(top: ConfigView, vision: ConfigView, text_hidden: int) -> Layout:
    """A ViT of gated MLPs whose images are padded to one number of patches, averaged over squares; a norm without weight
    and one matrix (modeling_gemma4.py). Those of E2B and E4B clip what goes through their linears, and do not standardize
    what they end in.

    An image up to three times as long as it is high becomes 252 tokens or more of 280, by how its sides are rounded
    (get_aspect_ratio_preserving_size in image_processing_gemma4.py, 5.24.0).
    """
    hidden, head = vision.size("hidden_size"), vision.size("head_dim")
    heads, kv_heads = vision.size("num_attention_heads"), vision.size("num_key_value_heads")

    def block(hidden: int, width: int) -> Tensors:
        attention = split_attention(hidden, heads, kv_heads, head)
        plain = (*attention, *gated_mlp("mlp", width, hidden))
        return (
            *(replace(tensor, name=_clippable(tensor.name)) for tensor in plain),
            *norm("self_attn.q_norm", head),
            *norm("self_attn.k_norm", head),
            *norm("input_layernorm", hidden),
            *norm("post_attention_layernorm", hidden),
            *norm("pre_feedforward_layernorm", hidden),
            *norm("post_feedforward_layernorm", hidden),
        )

    path, tokens = "model.vision_tower", vision.optional_size("default_output_length")
    tokens = tokens or top.optional_size("vision_soft_tokens_per_image") or GEMMA4_TOKENS
    rows, pixels = (
        tokens * vision.size("pooling_kernel_size") ** 2,
        3 * vision.size("patch_size") ** 2,
    )
    units = (
        tower_unit(
            TOWER,
            f"{path}.patch_embedder",
            *linear("input_proj", hidden, pixels),
            *other("position_embedding_table", 2, vision.size("position_embedding_size"), hidden),
        ),
        tower_layers(vision, f"{path}.encoder.layers", block),
        tower_unit(
            PROJECTOR, "model.embed_vision", *linear("embedding_projection", text_hidden, hidden)
        ),
    )
    is_traced = kv_heads == heads and head * heads == hidden
    clips = vision.flag("use_clipped_linears")
    is_traced &= vision.flag("standardize") is not clips
    sizes = Tower(
        kind="gemma4_clipped" if clips else "gemma4",
        depth=vision.size("num_hidden_layers"),
        hidden_size=hidden,
        num_heads=heads,
        intermediate_size=vision.size("intermediate_size"),
        patch_values=pixels,
        token_size=text_hidden,
        tile_rows=rows,
        tile_patches=rows,
        tile_tokens=tokens,
        fewest_tokens=tokens * 9 // 10,
    )
    return units, sizes if is_traced else None


def _clippable(name: str) -> str:
    """Return the name of a weight whose module is a linear inside another (Gemma4ClippableLinear)."""
    module, _, weight = name.rpartition(".")
    return f"{module}.linear.{weight}"


def mllama(top: ConfigView, vision: ConfigView, text_hidden: int) -> Layout:
    """Two stacks of layers, gated position tables for every tiling, one linear (modeling_mllama.py, 5.24.0).

    A tile here is a whole image: what the processor cuts it into is padded to as many as the tables have
    (image_processing_mllama.py pack_images), and a tile's patches with its class token to rows of 8.
    """
    hidden, width = vision.size("hidden_size"), vision.size("intermediate_size")
    path = "model.vision_model"
    positions = patches_of(vision) + 1
    ratios = vision.get("supported_aspect_ratios")
    rows = 1 + (len(ratios) if isinstance(ratios, list) else MLLAMA_ASPECT_RATIOS)
    tiles = vision.size("max_num_tiles")
    block = (
        *split_attention(hidden, 1, 1, hidden),
        *linear("mlp.fc1", width, hidden, True),
        *linear("mlp.fc2", hidden, width, True),
        *vectors("input_layernorm", hidden),
        *vectors("post_attention_layernorm", hidden),
    )
    gates = (*other("gate_attn", 1), *other("gate_ffn", 1))
    units = (
        tower_unit(
            TOWER,
            path,
            *other("class_embedding", hidden),
            *patch_conv("patch_embedding", vision, hidden, False),
            *other("gated_positional_embedding.gate", 1),
            *other("gated_positional_embedding.embedding", positions, hidden),
            *table(
                "gated_positional_embedding.tile_embedding.weight", rows, tiles * positions * hidden
            ),
            *vectors("layernorm_pre", hidden),
            *vectors("layernorm_post", hidden),
            *(
                tensor
                for name in ("pre", "post")
                for tensor in (
                    *other(f"{name}_tile_positional_embedding.gate", 1),
                    *table(
                        f"{name}_tile_positional_embedding.embedding.weight", rows, tiles * hidden
                    ),
                )
            ),
        ),
        tower_unit(
            TOWER, f"{path}.transformer.layers.*", *block, count=vision.size("num_hidden_layers")
        ),
        tower_unit(
            TOWER,
            f"{path}.global_transformer.layers.*",
            *gates,
            *block,
            count=vision.size("num_global_layers"),
        ),
        tower_unit(
            PROJECTOR,
            "model.multi_modal_projector",
            *(
                ParameterTensor(tensor.name[1:], tensor.shape, tensor.kind)
                for tensor in linear("", text_hidden, vision.size("vision_output_dim"), True)
            ),
        ),
    )
    depth, behind = vision.size("num_hidden_layers"), vision.size("num_global_layers")
    taken = vision.get("intermediate_layers_indices")
    num_taken = len(taken) if isinstance(taken, list) else len(MLLAMA_TAKEN)
    sizes = Tower(
        kind="mllama",
        depth=depth,
        hidden_size=hidden,
        num_heads=vision.size("attention_heads"),
        intermediate_size=width,
        patch_values=patch_values(vision),
        token_size=text_hidden,
        tile_rows=tiles * ceil_div(positions, MLLAMA_ROWS) * MLLAMA_ROWS,
        tile_patches=tiles * (positions - 1),
        tile_tokens=tiles * positions,
        num_behind=behind,
        is_apart=True,
    )
    is_traced = num_taken == len(MLLAMA_TAKEN) and positions % MLLAMA_ROWS
    return units, sizes if is_traced else None
