"""The towers of Qwen2-VL, Qwen2.5-VL, Qwen3-VL and Qwen3.5, which take images of any size."""

from __future__ import annotations

from preflight.model import ModelUnit, Tower
from preflight.models.families.config_view import ConfigView
from preflight.models.families.layout import Tensors, gated_mlp, linear, norm
from preflight.models.families.towers.parts import (
    Layout,
    patch_conv,
    patch_values,
    table,
    tower_unit,
    vectors,
)
from preflight.plan_parts import PROJECTOR, TOWER

QWEN3_DEEPSTACK = 3
"""Entries of `deepstack_visual_indexes` where the file has none (configuration_qwen3_vl.py)."""


def qwen3(top: ConfigView, vision: ConfigView, text_hidden: int) -> Layout:
    """A ViT with learned positions and one merger more for every deep-stacked layer (modeling_qwen3_vl.py)."""
    indexes = vision.get("deepstack_visual_indexes")
    num_deep = len(indexes) if isinstance(indexes, list) else QWEN3_DEEPSTACK
    return _with_positions(vision, num_deep)


def qwen3_5(top: ConfigView, vision: ConfigView, text_hidden: int) -> Layout:
    """The tower of Qwen3-VL without mergers in between (modeling_qwen3_5.py)."""
    return _with_positions(vision, 0)


def _with_positions(vision: ConfigView, num_deep: int) -> Layout:
    hidden, width = vision.size("hidden_size"), vision.size("intermediate_size")
    out, merged = vision.size("out_hidden_size"), hidden * vision.size("spatial_merge_size") ** 2
    path = "model.visual"
    positions = vision.size("num_position_embeddings")

    def merger(size: int) -> Tensors:
        return (
            *vectors("norm", size),
            *linear("linear_fc1", merged, merged, True),
            *linear("linear_fc2", out, merged, True),
        )

    units = [
        tower_unit(
            TOWER,
            path,
            *patch_conv("patch_embed.proj", vision, hidden, True),
            *table("pos_embed.weight", positions, hidden),
        ),
        tower_unit(
            TOWER,
            f"{path}.blocks.*",
            *_qwen_block(hidden, "linear_fc1", "linear_fc2", width),
            count=vision.size("depth"),
        ),
        tower_unit(PROJECTOR, f"{path}.merger", *merger(hidden)),
    ]
    if num_deep:
        deep = f"{path}.deepstack_merger_list.*"
        units.append(tower_unit(PROJECTOR, deep, *merger(merged), count=num_deep))
    return tuple(units), _qwen_sizes("qwen3_vl", vision, hidden, width, out, num_deep)


def qwen2_5(top: ConfigView, vision: ConfigView, text_hidden: int) -> Layout:
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
        tower_unit(TOWER, path, *patch_conv("patch_embed.proj", vision, hidden, False)),
        tower_unit(TOWER, f"{path}.blocks.*", *block, count=vision.size("depth")),
        _qwen_merger(path, hidden, vision.size("spatial_merge_size"), out, False),
    )
    return units, _qwen_sizes("qwen2_5_vl", vision, hidden, width, out)


def qwen2(top: ConfigView, vision: ConfigView, text_hidden: int) -> Layout:
    """LayerNorm, a plain MLP and a merger; `hidden_size` is the decoder's (modeling_qwen2_vl.py)."""
    hidden, out, path = vision.size("embed_dim"), vision.size("hidden_size"), "model.visual"
    ratio = vision.get("mlp_ratio")
    width = int(hidden * ratio) if isinstance(ratio, (int, float)) else vision.size("mlp_ratio")
    units = (
        tower_unit(TOWER, path, *patch_conv("patch_embed.proj", vision, hidden, False)),
        tower_unit(
            TOWER,
            f"{path}.blocks.*",
            *_qwen_block(hidden, "fc1", "fc2", width),
            count=vision.size("depth"),
        ),
        _qwen_merger(path, hidden, vision.size("spatial_merge_size"), out, True),
    )
    return units, _qwen_sizes("qwen2_vl", vision, hidden, width, out)


def _qwen_sizes(
    kind: str, vision: ConfigView, hidden: int, width: int, out: int, num_deep: int = 0
) -> Tower:
    return Tower(
        kind=kind,
        depth=vision.size("depth"),
        hidden_size=hidden,
        num_heads=vision.size("num_heads"),
        intermediate_size=width,
        patch_values=patch_values(vision),
        token_size=out,
        patches_per_token=vision.size("spatial_merge_size") ** 2,
        num_deep=num_deep,
    )


def _qwen_block(hidden: int, up: str, down: str, width: int) -> Tensors:
    return (
        *vectors("norm1", hidden),
        *vectors("norm2", hidden),
        *linear("attn.qkv", 3 * hidden, hidden, True),
        *linear("attn.proj", hidden, hidden, True),
        *linear(f"mlp.{up}", width, hidden, True),
        *linear(f"mlp.{down}", hidden, width, True),
    )


def _qwen_merger(path: str, hidden: int, merge: int, out: int, bias: bool) -> ModelUnit:
    merged = hidden * merge**2
    return tower_unit(
        PROJECTOR,
        f"{path}.merger",
        *vectors("ln_q", hidden, bias),
        *linear("mlp.0", merged, merged, True),
        *linear("mlp.2", out, merged, True),
    )
