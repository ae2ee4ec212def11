"""A training step of a tiny model that sees, run for real on this CPU, and the largest sum of live bytes in it."""

from __future__ import annotations

import gc
import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from preflight.derive.costs.small_towers import IN_TILES, OF_ANY_SIZE

ROWS, IMAGES, ROOM = 2, 2, 40
"""Sequences, images in each, and tokens of text beside them."""
DEPTH, SIDE, PATCH = 5, 8, 14
PADDED_SIDE = 12
"""Of Gemma 4's images, whose last nine patches are padding here."""
TEXT = {
    "hidden_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 384, "vocab_size": 1000, "head_dim": 48,
}  # fmt: skip
TOWER = {
    "hidden_size": 160, "num_attention_heads": 5, "intermediate_size": 416,
    "num_hidden_layers": DEPTH, "patch_size": PATCH, "image_size": SIDE * PATCH,
}  # fmt: skip
SIGLIP = {**TOWER, "model_type": "siglip_vision_model", "vision_use_head": False}
QWEN = {
    "depth": DEPTH, "num_heads": 5, "patch_size": PATCH, "spatial_merge_size": 2,
    "temporal_patch_size": 2, "hidden_size": 160, "intermediate_size": 416, "out_hidden_size": 192,
}  # fmt: skip
ROTARY = {"rope_parameters": {"rope_type": "default", "mrope_section": [12, 6, 6]}}
PIXTRAL = {**TOWER, "model_type": "pixtral", "head_dim": 32}
GEMMA4 = {
    "hidden_size_per_layer_input": 0, "attention_k_eq_v": True, "global_head_dim": 48, "sliding_window": 512,
    "num_global_key_value_heads": 2, "layer_types": ["sliding_attention", "full_attention"],
    "use_bidirectional_attention": "vision", "num_kv_shared_layers": 0, "final_logit_softcapping": 30.0,
}  # fmt: skip
SHARING = {
    "num_hidden_layers": 6, "hidden_size_per_layer_input": 24, "global_head_dim": 264, "sliding_window": 32,
    "layer_types": ["sliding_attention", "full_attention"] * 3, "num_kv_shared_layers": 2,
    "final_logit_softcapping": 30.0, "vocab_size_per_layer_input": 1000, "pad_token_id": 0,
    "use_double_wide_mlp": True,
}  # fmt: skip
CONFIGS = {
    "qwen2_vl": (
        {**TEXT, **ROTARY},
        {**QWEN, "embed_dim": 160, "mlp_ratio": 3, "hidden_size": 192},
    ),
    "qwen2_5_vl": ({**TEXT, **ROTARY}, {**QWEN, "fullatt_block_indexes": [2]}),
    "qwen3_vl": (
        {**TEXT, **ROTARY},
        {**QWEN, "num_position_embeddings": 64, "deepstack_visual_indexes": [1, 2]},
    ),
    "gemma3": (TEXT, SIGLIP),
    "gemma4": (
        {**TEXT, **GEMMA4},
        {
            **TOWER,
            "model_type": "gemma4_vision",
            "head_dim": 32,
            "num_key_value_heads": 5,
            "standardize": True,
            "default_output_length": PADDED_SIDE**2 // 9,
            "position_embedding_size": 64,
        },
    ),
    "gemma4_clipped": (
        {**TEXT, **SHARING},
        {
            **TOWER,
            "model_type": "gemma4_vision",
            "head_dim": 32,
            "num_key_value_heads": 5,
            "use_clipped_linears": True,
            "default_output_length": PADDED_SIDE**2 // 9,
            "position_embedding_size": 64,
        },
    ),
    "paligemma": ({**TEXT, "model_type": "gemma"}, SIGLIP),
    "llava": ({**TEXT, "model_type": "llama"}, {**TOWER, "model_type": "clip_vision_model"}),
    "idefics3": (
        {**TEXT, "model_type": "llama", "pad_token_id": 0},
        {**TOWER, "model_type": "idefics3_vision"},
    ),
    "internvl": (
        {**TEXT, "model_type": "qwen2"},
        {**TOWER, "model_type": "internvl_vision", "image_size": [SIDE * PATCH] * 2},
    ),
    "internvl_rms": (
        {**TEXT, "model_type": "qwen2"},
        {
            **TOWER,
            "model_type": "internvl_vision",
            "image_size": [SIDE * PATCH] * 2,
            "norm_type": "rms_norm",
            "use_qk_norm": True,
        },
    ),
    "mistral3": ({**TEXT, "model_type": "mistral"}, PIXTRAL),
    "mllama": (
        {
            **TEXT,
            "num_hidden_layers": 4,
            "cross_attention_layers": [1],
            "model_type": "mllama_text_model",
            "pad_token_id": 0,
        },
        {
            **{name: size for name, size in TOWER.items() if name != "num_attention_heads"},
            "model_type": "mllama_vision_model",
            "attention_heads": 5,
            "num_global_layers": 2,
            "max_num_tiles": IN_TILES,
            "intermediate_layers_indices": [0, 1, 2, 3, 4],
            "vision_output_dim": 6 * 160,
        },
    ),
    "llava_pixtral": ({**TEXT, "model_type": "mistral"}, PIXTRAL),
}
MORE = {
    "gemma3": {"mm_tokens_per_image": 16},
    "paligemma": {"projection_dim": 192, "hidden_size": 192},
    "idefics3": {"pad_token_id": 0},
    "llava_pixtral": {"vision_feature_layer": -1, "vision_feature_select_strategy": "full"},
}
PARTS = {
    "projector": ("projector", "merger", "connector", "embed_vision"),
    "tower": ("visual", "vision_"),
}


def config_of(kind: str) -> dict:
    text, vision = CONFIGS[kind]
    model_type = kind.removesuffix("_rms").removesuffix("_pixtral").removesuffix("_clipped")
    return {
        "model_type": model_type, "text_config": text, "vision_config": vision, "image_token_id": 5,
        "image_token_index": 5, "video_token_id": 6, "vision_start_token_id": 7,
        "vision_end_token_id": 8, **MORE.get(kind, {}),
    }  # fmt: skip


def batch_of(kind: str, tokens: int) -> dict:
    """Return what processor and collator hand to the model: every sequence has its images, with text between them."""
    count, size = ROWS * IMAGES, SIDE * PATCH
    pixels = torch.ones(count, 3, size, size)
    if kind.startswith("qwen"):
        grid = torch.tensor([[1, 2 * SIDE, 2 * SIDE]] * count)
        patches = int(grid.prod(-1).sum())
        extra = {"pixel_values": torch.zeros(patches, 6 * PATCH**2), "image_grid_thw": grid}
    elif kind.startswith("gemma4"):
        places = torch.cartesian_prod(torch.arange(PADDED_SIDE), torch.arange(PADDED_SIDE)).flip(-1)
        places[(places >= PADDED_SIDE - 3).all(-1)] = -1
        values = torch.ones(count, PADDED_SIDE**2, 3 * PATCH**2)
        extra = {"pixel_values": values, "image_position_ids": places.repeat(count, 1, 1)}
    elif kind == "idefics3":
        extra = {"pixel_values": pixels.view(ROWS, IMAGES, 3, size, size)}
    elif kind == "mllama":
        tiled = torch.ones(ROWS, IMAGES, IN_TILES, 3, size, size)
        extra = {
            "pixel_values": tiled,
            "aspect_ratio_ids": torch.ones(ROWS, IMAGES, dtype=torch.long),
            "aspect_ratio_mask": torch.ones(ROWS, IMAGES, IN_TILES, dtype=torch.long),
            "cross_attention_mask": torch.ones(
                ROWS, length_of(tokens), IMAGES, IN_TILES, dtype=torch.long
            ),
        }
    elif kind in OF_ANY_SIZE:
        extra = {"pixel_values": pixels, "image_sizes": torch.tensor([[size, size]] * count)}
    else:
        extra = {"pixel_values": pixels}
    ids = torch.full((ROWS, length_of(tokens)), 9)
    for image in range(IMAGES):
        start = 1 + image * (tokens + 2)
        ids[:, start : start + tokens] = 5
    if kind in ("gemma3", "paligemma"):
        extra["token_type_ids"] = (ids == 5).long()
    elif kind.startswith(("qwen", "gemma4")):
        extra["mm_token_type_ids"] = (ids == 5).long()
    return {
        "input_ids": ids, "labels": torch.full_like(ids, 9), "attention_mask": torch.ones_like(ids),
        **extra,
    }  # fmt: skip


def length_of(tokens: int) -> int:
    length = IMAGES * tokens + ROOM
    return length + -length % 16


class Alive(TorchDispatchMode):
    """Adds up the storages that are alive, apart from any of preflight's own code."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: dict[int, tuple[int, object]] = {}

    def hold(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self.known:
            size = storage.nbytes()
            self.known[key] = (size, weakref.ref(storage, lambda _: self.gone(key)))
            self.now += size
            self.peak = max(self.peak, self.now)

    def gone(self, key: int) -> None:
        size, _ = self.known.pop(key, (0, None))
        self.now -= size

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for item in tree_flatten(result)[0]:
            if isinstance(item, torch.Tensor):
                self.hold(item)
        return result


ON_LANGUAGE = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SAVED = "multi_modal_projector"


def built(kind: str, frozen: tuple[str, ...], rank: int, saves_projector: bool = False):
    """Return a tiny model; beside an adapter on its language model alone the projector trains whole, if asked to."""
    import peft
    from transformers import AutoConfig, AutoModelForImageTextToText

    values = config_of(kind)
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    model = AutoModelForImageTextToText.from_config(
        config, dtype=torch.bfloat16, attn_implementation="sdpa"
    )
    for name, parameter in model.named_parameters():
        part = next((p for p, words in PARTS.items() if any(w in name for w in words)), "")
        parameter.requires_grad_(part not in frozen)
    if rank:
        on_language = rf".*language_model.*\.({'|'.join(ON_LANGUAGE)})"
        told = {"target_modules": on_language, "modules_to_save": [SAVED]}
        lora = peft.LoraConfig(
            r=rank, **(told if saves_projector else {"target_modules": "all-linear"})
        )
        model = peft.get_peft_model(model, lora, autocast_adapter_dtype=False)
    return model.train()


def peak_of_step(
    kind: str,
    tokens: int,
    frozen=(),
    rank: int = 0,
    checkpointed: bool = False,
    saves_projector: bool = False,
    batch: dict | None = None,
):
    """Return the most bytes alive in the second step of a loop that lets go of outputs and gradients."""
    model = built(kind, frozen, rank, saves_projector)
    if checkpointed:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        if rank:
            model.enable_input_require_grads()  # as Trainer and TRL do for adapters
    batch = batch or batch_of(kind, tokens)
    alive = Alive()
    for tensor in (*model.parameters(), *model.buffers(), *batch.values()):
        alive.hold(tensor)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, foreach=False)
    gc.collect()
    gc.disable()
    try:
        with alive:
            for step in range(2):
                alive.peak = alive.now
                outputs = model(**batch, use_cache=False)
                loss = outputs.loss
                del outputs
                loss.backward()
                del loss
                if not step:
                    optimizer.step()
                optimizer.zero_grad(set_to_none=True)
    finally:
        gc.enable()
    return alive.peak
