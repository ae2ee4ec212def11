"""Sizes of the small models that are traced, of every decoder family and stack: none can be mistaken for another."""

from __future__ import annotations

from typing import Any

from preflight.formulas.cost_tables import LIGER
from preflight.models.families.bart_like import ACTIVE, BOTH, KINDS

BATCH, LENGTH = 2, 256
PACKED_LENGTH = 1024
"""Enough tokens that a packed base unpacks its weights."""

PLAIN = {
    "hidden_size": 320, "num_hidden_layers": 3, "num_attention_heads": 10, "vocab_size": 1000,
    "intermediate_size": 832, "max_position_embeddings": 2048, "pad_token_id": 0,
    "tie_word_embeddings": False,
}  # fmt: skip
GROUPED = {**PLAIN, "num_key_value_heads": 2}
HEADS = {**GROUPED, "head_dim": 48}
GPT = {
    "n_embd": 320, "n_layer": 3, "n_head": 10, "vocab_size": 1000, "n_positions": 2048,
    "attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "tie_word_embeddings": False,
}  # fmt: skip
EXPERTS = {"num_experts": 12, "num_experts_per_tok": 3, "moe_intermediate_size": 224}
LOCAL_EXPERTS = {"num_local_experts": 12, "num_experts_per_tok": 3}
DELTA = {
    **HEADS, "num_hidden_layers": 4, "layer_types": ["linear_attention", "full_attention"] * 2,
    "linear_num_key_heads": 3, "linear_num_value_heads": 6, "linear_key_head_dim": 28,
    "linear_value_head_dim": 36, "linear_conv_kernel_dim": 4,
}  # fmt: skip
LATENT = {
    **PLAIN, "num_hidden_layers": 5, "num_key_value_heads": 10, "moe_intermediate_size": 224, "n_routed_experts": 12,
    "num_experts_per_tok": 3, "n_shared_experts": 2, "kv_lora_rank": 56, "q_lora_rank": 88,
    "qk_nope_head_dim": 24, "qk_rope_head_dim": 16, "v_head_dim": 32, "n_group": 2,
    "topk_group": 1,
}  # fmt: skip

STACKS = {
    "d_model": 320, "d_kv": 48, "d_ff": 832, "num_layers": 3, "num_decoder_layers": 3, "num_heads": 10, "vocab_size": 1000,
    "pad_token_id": 0, "decoder_start_token_id": 0,
}  # fmt: skip

HEARING = {
    "d_model": 320, "encoder_layers": 3, "decoder_layers": 3, "encoder_attention_heads": 10, "decoder_attention_heads": 10,
    "encoder_ffn_dim": 832, "decoder_ffn_dim": 832, "vocab_size": 1000, "num_mel_bins": 40, "max_source_positions": 192,
    "max_target_positions": 448, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2,
}  # fmt: skip
BARTS = {
    "d_model": 320, "encoder_layers": 3, "decoder_layers": 3, "encoder_attention_heads": 10, "decoder_attention_heads": 10,
    "encoder_ffn_dim": 832, "decoder_ffn_dim": 832, "vocab_size": 1000, "max_position_embeddings": 448, "pad_token_id": 0,
    "decoder_start_token_id": 2, "encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0, "dropout": 0.1,
    "activation_dropout": 0.0,
}  # fmt: skip
BART_LIKE = {
    f"{name}{BOTH}{end}": {
        **BARTS, "activation_function": KINDS[name].activation, "activation_dropout": 0.1 if end else 0.0,
    }
    for name, end in (
        ("bart", ""), ("bart", ACTIVE), ("mbart", ""), ("pegasus", ACTIVE), ("marian", ""), ("m2m_100", ""),
    )
}  # fmt: skip
GATED_STACKS = {**STACKS, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
RELU_STACKS = {**STACKS, "feed_forward_proj": "relu"}

SMALL_MODELS: dict[str, dict[str, Any]] = {
    "llama": HEADS,
    "mistral": HEADS,
    "ministral": HEADS,
    "ministral3": HEADS,
    "granite": HEADS,
    "smollm3": HEADS,
    "qwen2": HEADS,
    "qwen3": HEADS,
    "gemma": HEADS,
    "gemma2": {**HEADS, "num_hidden_layers": 5, "sliding_window": 64},
    "gemma3_text": {**HEADS, "num_hidden_layers": 7, "sliding_window": 64},
    "olmo": HEADS,
    "olmo2": HEADS,
    "olmo3": {**HEADS, "num_hidden_layers": 5, "sliding_window": 64},
    "cohere": HEADS,
    "cohere2": {**HEADS, "num_hidden_layers": 5, "sliding_window": 64},
    "stablelm": GROUPED,
    "phi": HEADS,
    "phi3": HEADS,
    "glm": HEADS,
    "glm4": HEADS,
    "starcoder2": {**HEADS, "residual_dropout": 0.0, "embedding_dropout": 0.0},
    "gpt2": GPT,
    "gpt_bigcode": GPT,
    "gptj": {**GPT, "rotary_dim": 16},
    "gpt_neox": PLAIN,
    "falcon": PLAIN,
    "opt": {**PLAIN, "ffn_dim": 832, "word_embed_proj_dim": 320, "dropout": 0.0},
    "bloom": {
        "hidden_size": 320, "n_layer": 3, "n_head": 10, "vocab_size": 1000, "hidden_dropout": 0.0,
        "tie_word_embeddings": False,
    },
    "mixtral": {**HEADS, **LOCAL_EXPERTS},
    "granitemoe": {**HEADS, **LOCAL_EXPERTS},
    "olmoe": {**GROUPED, **EXPERTS},
    "phimoe": {**HEADS, **LOCAL_EXPERTS, "num_experts_per_tok": 2},
    "qwen2_moe": {**HEADS, **EXPERTS, "shared_expert_intermediate_size": 416},
    "qwen3_moe": {**HEADS, **EXPERTS},
    "glm4_moe": {**HEADS, **LATENT, "num_key_value_heads": 2, "first_k_dense_replace": 2},
    "gpt_oss": {**HEADS, **LOCAL_EXPERTS, "num_hidden_layers": 5, "sliding_window": 64},
    "llama4_text": {
        **HEADS, **LOCAL_EXPERTS, "num_hidden_layers": 5, "num_experts_per_tok": 1, "intermediate_size_mlp": 704,
        "attention_chunk_size": 64,
    },
    "deepseek_v2": {**LATENT, "first_k_dense_replace": 2},
    "deepseek_v3": {**LATENT, "first_k_dense_replace": 2},
    "deepseek_v32": {
        **LATENT, "first_k_dense_replace": 2, "index_n_heads": 2, "index_head_dim": 36, "index_topk": 80,
    },
    "glm4_moe_lite": {
        **LATENT, "mlp_layer_types": ["dense", "dense", "sparse", "sparse", "sparse"],
    },
    "qwen3_next": {**DELTA, **EXPERTS, "shared_expert_intermediate_size": 416},
    "qwen3_5_text": DELTA,
    "qwen3_5_moe_text": {**DELTA, **EXPERTS, "shared_expert_intermediate_size": 416},
    "qwen2_vl_text": GROUPED,
    "qwen2_5_vl_text": GROUPED,
    "qwen3_vl_text": HEADS,
    "qwen3_vl_moe_text": {**HEADS, **EXPERTS},
    "mllama_text_model": GROUPED,
    "gemma2_flash": {**HEADS, "num_hidden_layers": 5, "sliding_window": 64},
    "gpt2_eager": GPT,
    "opt_dropout": {**PLAIN, "ffn_dim": 832, "word_embed_proj_dim": 320, "dropout": 0.1},
    "gpt_oss_flash": {**HEADS, **LOCAL_EXPERTS, "num_hidden_layers": 5, "sliding_window": 64},
}  # fmt: skip
"""By model_type: hidden sizes, heads, widths and ranks that share no ratio, a few layers of each kind.

`_flash` is a family that runs eagerly unless it is asked for flash attention, asked for it; `_eager` one that is asked
for eager attention; `_dropout` one that drops out as its class does by default.
"""

LIGER_FAMILIES = (
    "llama", "mistral", "ministral", "granite", "smollm3", "gemma", "gemma3_text", "qwen2", "qwen3", "phi3", "olmo2",
    "olmo3",
)  # fmt: skip
"""Families that Liger has modules for (MODEL_TYPE_TO_APPLY_LIGER_FN in liger_kernel/transformers/monkey_patch.py,
0.8.5), that run without scores, and that its modules could be traced in: not experts, nor what sees."""
LIGER_MODELS = tuple(f"{name}{LIGER}" for name in LIGER_FAMILIES)


TINY = {
    "num_heads": 1, "depth": 1, "patch_size": 2, "spatial_merge_size": 1, "temporal_patch_size": 1,
}  # fmt: skip
QWEN3_TOWER = {
    **TINY, "hidden_size": 8, "intermediate_size": 8, "num_position_embeddings": 4,
    "deepstack_visual_indexes": [],
}  # fmt: skip
TOWERS: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2_vl_text": ("qwen2_vl", {**TINY, "embed_dim": 8, "mlp_ratio": 1}),
    "qwen2_5_vl_text": ("qwen2_5_vl", {**TINY, "hidden_size": 8, "intermediate_size": 8}),
    "qwen3_vl_text": ("qwen3_vl", QWEN3_TOWER),
    "qwen3_vl_moe_text": ("qwen3_vl_moe", QWEN3_TOWER),
    "qwen3_5_text": ("qwen3_5", QWEN3_TOWER),
    "qwen3_5_moe_text": ("qwen3_5_moe", QWEN3_TOWER),
    "mllama_text_model": (
        "mllama",
        {
            "hidden_size": 8, "num_hidden_layers": 1, "num_global_layers": 1, "attention_heads": 1,
            "intermediate_size": 8, "vision_output_dim": 16, "image_size": 4, "patch_size": 2,
            "max_num_tiles": 1, "intermediate_layers_indices": [0], "supported_aspect_ratios": [[1, 1]],
        },
    ),
}  # fmt: skip
"""Decoders that are only inside a model that sees: the type of the whole, and as little of a tower as it can have."""


SEEING_MODELS = {
    "mllama_text_model_seeing": {
        **GROUPED, "num_hidden_layers": 6, "cross_attention_layers": [1, 3],
    },
}  # fmt: skip
"""Decoders whose layers attend to images, beside one image for each sequence."""
TAKEN = {"intermediate_layers_indices": [0] * 5, "vision_output_dim": 48}
SIDES = (10, 8, 12, 14)
"""Patches along a side of its tiles, by variant: rows that the efficient kernel's mask is padded for, as published."""

STACK_MODELS: dict[str, dict[str, Any]] = {
    "t5": GATED_STACKS,
    "t5_eager": GATED_STACKS,
    "t5_relu": RELU_STACKS,
    "t5_relu_eager": RELU_STACKS,
    "whisper_both": HEARING,
    **BART_LIKE,
}
"""Encoders with a decoder, which are not packed, and have a page of their own (docs/encoders.md)."""
EVERY_MODEL = {**SMALL_MODELS, **SEEING_MODELS, **STACK_MODELS}

RELU = "_relu"
"""End of the name of the first T5, beside that of its later kin."""
STACKED = ("t5", "whisper", *KINDS)
OLDER_MODELS = ("t5_float_eager", "t5_relu_float_eager")
"""Those that transformers before 5.15 is needed for."""
OTHER_SIZES: dict[str, tuple[int, ...]] = {
    "d_model": (448, 480, 384),
    "d_kv": (40, 56, 64),
    "d_ff": (992, 1184, 1088),
    "encoder_attention_heads": (8, 12, 6),
    "decoder_attention_heads": (8, 12, 6),
    "encoder_ffn_dim": (992, 1184, 1088),
    "decoder_ffn_dim": (992, 1184, 1088),
    "num_mel_bins": (56, 72, 48),
    "max_source_positions": (128, 224, 256),
    "num_heads": (8, 12, 6),
    "hidden_size": (448, 480, 384),
    "n_embd": (448, 480, 384),
    "word_embed_proj_dim": (448, 480, 384),
    "num_attention_heads": (8, 12, 6),
    "n_head": (14, 12, 6),
    "num_key_value_heads": (4, 3, 3),
    "head_dim": (40, 56, 64),
    "intermediate_size": (992, 1184, 1088),
    "ffn_dim": (992, 1184, 1088),
    "intermediate_size_mlp": (928, 1056, 800),
    "moe_intermediate_size": (288, 352, 160),
    "shared_expert_intermediate_size": (448, 608, 352),
    "vocab_size": (1104, 1208, 1512),
    "num_experts": (16, 20, 10),
    "num_local_experts": (16, 20, 10),
    "n_routed_experts": (16, 20, 10),
    "linear_num_key_heads": (2, 5, 4),
    "linear_num_value_heads": (6, 10, 8),
    "linear_key_head_dim": (44, 20, 32),
    "linear_value_head_dim": (52, 24, 40),
    "kv_lora_rank": (72, 64, 48),
    "q_lora_rank": (104, 120, 80),
    "qk_nope_head_dim": (40, 32, 56),
    "qk_rope_head_dim": (24, 32, 8),
    "v_head_dim": (40, 24, 48),
    "index_n_heads": (3, 4, 5),
    "index_head_dim": (52, 60, 44),
    "index_topk": (96, 72, 88),
}
"""The same models again in sizes that are no multiple of the first: what a layer allocates is solved from all."""
NUM_VARIANTS = 3
"""As many as solving needs; one more is left for comparing."""
