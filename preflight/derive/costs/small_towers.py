"""A small vision-language model of every tower, in sizes that cannot be mistaken for each other, and images for it."""

from __future__ import annotations

from typing import Any

NUM_VARIANTS = 3
DEPTH = 5

TEXT = {
    "hidden_size": 72, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
    "intermediate_size": 40, "vocab_size": 320, "head_dim": 36,
}  # fmt: skip
TEXT_SIZES = (72, 88, 56)
WIDTHS = ((160, 5, 416), (240, 6, 896), (336, 14, 608))
"""Hidden size, heads and MLP width, by variant."""
SIDES, PATCHES = (8, 12, 16), (6, 4, 10)
"""Patches along a side of a tile or a window, by variant; and pixels along a side of a patch."""
IN_NINES = dict.fromkeys(("gemma4", "gemma4_clipped"), (6, 12, 18))
"""Sides where nine patches become one token."""
NUM_TILES = 3
NUM_WINDOWS = 4
NUM_BEHIND = 3
"""Blocks of a second stack."""
IN_TILES = 4
"""Tiles that an image of Llama 3.2 Vision is padded to, as published."""

FAMILIES: dict[str, str] = {
    "qwen2_vl": "qwen2_vl",
    "qwen2_5_vl": "qwen2_5_vl",
    "qwen3_vl": "qwen3_vl",
    "gemma3": "gemma3",
    "gemma4": "gemma4",
    "gemma4_clipped": "gemma4",
    "paligemma": "paligemma",
    "llava": "llava",
    "llava_pixtral": "llava",
    "llava_siglip": "llava",
    "idefics3": "idefics3",
    "internvl": "internvl",
    "internvl_rms": "internvl",
    "mistral3": "mistral3",
    "mllama": "mllama",
}
"""Kind of tower -> the model_type that it is traced in."""
OF_ANY_SIZE = ("mistral3", "llava_pixtral")
"""Kinds that are handed how large each image is."""

DECODERS = {
    "gemma3": "gemma3_text", "gemma4": "gemma4_text", "paligemma": "gemma", "llava": "llama", "idefics3": "llama",
    "internvl": "qwen2", "mistral3": "mistral", "mllama": "mllama_text_model",
}  # fmt: skip


def small_config(kind: str, variant: int) -> dict[str, Any]:
    """Return the small config of a tower's family; the variants have the same blocks in other sizes."""
    model_type = FAMILIES[kind]
    hidden, heads, width = WIDTHS[variant]
    side, out, patch = _sides(kind)[variant], TEXT_SIZES[variant], PATCHES[variant]
    text: dict[str, Any] = {**TEXT, "hidden_size": out, "head_dim": out // 2}
    if model_type in DECODERS:
        text["model_type"] = DECODERS[model_type]
    if model_type.startswith("qwen"):
        tower = _qwen(kind, hidden, heads, width, out, side, patch)
        eighth = out // 2 // 4
        text["rope_parameters"] = {
            "rope_type": "default", "mrope_section": [out // 4 - 2 * eighth // 2, eighth // 2, eighth // 2],
        }  # fmt: skip
        return {"model_type": model_type, "text_config": text, "vision_config": tower}
    tower = {
        "hidden_size": hidden, "num_attention_heads": heads, "intermediate_size": width,
        "num_hidden_layers": DEPTH, "patch_size": patch, "image_size": patch * side,
    }  # fmt: skip
    if kind == "llava":
        tower["model_type"] = "clip_vision_model"
    elif kind in ("llava_siglip", "gemma3", "paligemma"):
        tower.update(model_type="siglip_vision_model", vision_use_head=False)
    elif kind in OF_ANY_SIZE:
        tower.update(model_type="pixtral", head_dim=hidden // heads)
    elif kind == "mllama":
        tower.update(
            model_type="mllama_vision_model", attention_heads=heads, num_global_layers=NUM_BEHIND,
            max_num_tiles=IN_TILES, intermediate_layers_indices=[0, 1, 2, 3, 4], vision_output_dim=6 * hidden,
        )  # fmt: skip
        text.update(cross_attention_layers=[0], pad_token_id=0)
        del tower["num_attention_heads"], text["head_dim"]
    elif model_type == "gemma4":
        tower.update(
            model_type="gemma4_vision", head_dim=hidden // heads, num_key_value_heads=heads,
            standardize=kind == "gemma4", use_clipped_linears=kind != "gemma4",
            position_embedding_size=100, pooling_kernel_size=3, default_output_length=(side // 3) ** 2,
        )  # fmt: skip
        text.update(
            hidden_size_per_layer_input=0, layer_types=["full_attention"], global_head_dim=out // 2
        )
    elif model_type == "internvl":
        is_rms = kind == "internvl_rms"
        tower.update(
            image_size=[patch * side] * 2, patch_size=[patch] * 2, model_type="internvl_vision",
            norm_type="rms_norm" if is_rms else "layer_norm", use_qk_norm=is_rms, attention_bias=not is_rms,
        )  # fmt: skip
    whole: dict[str, Any] = {
        "model_type": model_type, "text_config": text, "vision_config": tower,
        "image_token_id": 3, "image_token_index": 3,
    }  # fmt: skip
    if kind == "gemma3":
        whole["mm_tokens_per_image"] = (side // 2) ** 2
    elif kind == "paligemma":
        whole.update(projection_dim=out, hidden_size=out)
    elif kind in ("llava_siglip", "llava_pixtral"):
        whole.update(vision_feature_layer=-1, vision_feature_select_strategy="full")
    elif kind == "idefics3":
        tower["model_type"] = "idefics3_vision"
        text["pad_token_id"] = whole["pad_token_id"] = 0
    return whole


def _sides(kind: str) -> tuple[int, ...]:
    return IN_NINES.get(kind, SIDES)


def _qwen(
    kind: str, hidden: int, heads: int, width: int, out: int, side: int, patch: int
) -> dict[str, Any]:
    tower: dict[str, Any] = {
        "depth": DEPTH, "num_heads": heads, "patch_size": patch, "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }  # fmt: skip
    if kind == "qwen2_vl":
        return {**tower, "embed_dim": hidden, "mlp_ratio": -(-width // hidden), "hidden_size": out}
    tower.update(hidden_size=hidden, intermediate_size=width, out_hidden_size=out)
    if kind == "qwen2_5_vl":
        return {**tower, "window_size": patch * side, "fullatt_block_indexes": [DEPTH - 1]}
    return {**tower, "num_position_embeddings": 100, "deepstack_visual_indexes": [0]}


def images(kind: str, variant: int) -> dict[str, Any]:
    """Return what the processor hands to the model: of towers of any size one image of four windows, else some tiles."""
    import torch

    side, patch = _sides(kind)[variant], PATCHES[variant]
    if kind.startswith("qwen"):
        grid = torch.tensor([[1, 2 * side, 2 * side]])
        values = torch.zeros(4 * side * side, 3 * 2 * patch * patch)
        return {"pixel_values": values, "image_grid_thw": grid}
    count = NUM_WINDOWS if kind in OF_ANY_SIZE else NUM_TILES  # which merges one after the other
    if kind in IN_NINES:  # all padded by one token's patches, as nearly every image is
        places = torch.cartesian_prod(torch.arange(side), torch.arange(side)).flip(-1)
        places[(places >= side - 3).all(-1)] = -1
        return {
            "pixel_values": torch.zeros(count, side * side, 3 * patch * patch),
            "image_position_ids": places.expand(count, -1, -1),
        }
    pixels = torch.zeros(count, 3, patch * side, patch * side)
    if kind == "mllama":
        tiled = pixels[:, None, None].expand(-1, 1, IN_TILES, -1, -1, -1).contiguous()
        return {
            "pixel_values": tiled,
            "aspect_ratio_ids": torch.ones(count, 1, dtype=torch.long),
            "aspect_ratio_mask": torch.ones(count, 1, IN_TILES, dtype=torch.long),
        }
    if kind == "idefics3":
        return {"pixel_values": pixels.unsqueeze(0) + 1}
    if kind in OF_ANY_SIZE:
        sizes = torch.tensor([[patch * side, patch * side]] * count)
        return {"pixel_values": pixels, "image_sizes": sizes}
    return {"pixel_values": pixels}


def attentions(kind: str) -> tuple[str, ...]:
    """Return the attentions that are not alike: flash attention takes all images at once, SDPA one after the other."""
    return ("sdpa", "flash_attention_2") if kind.startswith("qwen") else ("sdpa",)
