"""A small config of any causal model type of transformers, in several sizes, from what its fields are called."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

from preflight.derive.hub import register
from preflight.formulas.cost_tables import WINDOWED
from preflight.model import CAUSAL_LM
from preflight.models.families.table_traces import WINDOWS
from preflight.trace.encoders import encoder_class


def _alike(values: tuple[int, ...], *names: str) -> dict[str, tuple[int, ...]]:
    return dict.fromkeys(names, values)


SIZES: dict[str, tuple[int, ...]] = {
    **_alike((320, 448, 480, 384, 576, 640), "hidden_size", "d_model", "n_embd", "emb_dim", "attention_hidden_size",
             "lru_width", "embedding_size", "embedding_dim"),
    "input_embedding_size": (136, 232, 184, 152, 264, 296), "output_embedding_size": (368, 504, 552, 424, 648, 712),
    "pronunciation_embed_dim": (296, 424, 456, 344, 536, 616), "shape_embed_dim": (200, 328, 280, 248, 392, 424),
    **_alike((10, 8, 12, 6, 9, 16), "num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads",
             "decoder_attention_heads", "encoder_attention_heads", "num_decoder_attention_heads",
             "num_encoder_attention_heads", "swa_num_attention_heads"),
    **_alike((2, 4, 3, 3, 3, 8), "num_key_value_heads", "swa_num_key_value_heads",
             "multi_query_group_num"),
    **_alike((48, 40, 56, 64, 72, 80), "head_dim", "swa_head_dim", "dim_head", "kv_channels"),
    **_alike((832, 992, 1184, 1088, 1248, 1376), "intermediate_size", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim",
             "dim_ff", "dff", "ffn_hidden_size", "d_inner", "inner_hidden_size", "dense_intermediate_size", "n_inner"),
    **_alike((224, 288, 352, 160, 416, 256), "moe_intermediate_size", "expert_ffn_hidden_size"),
    **_alike((448, 608, 352, 416, 544, 672), "shared_expert_intermediate_size", "shared_intermediate_size",
             "moe_shared_expert_intermediate_size", "shared_experts_intermediate_size"),
    **_alike((1104, 1208, 1512, 1304, 1608, 1416), "vocab_size", "unpadded_vocab_size",
             "padded_vocab_size"),
    **_alike((12, 16, 20, 10, 18, 14), "num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"),
    **_alike((3, 2, 4, 3, 5, 4), "num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k"),
    **_alike((2, 4, 5, 1, 3, 7), "n_group", "num_expert_group"),
    **_alike((1, 1, 1, 1, 1, 1), "topk_group"),
    "global_head_dim": (112, 96, 128, 80, 104, 136),
    "num_global_key_value_heads": (5, 2, 6, 2, 3, 4),
    "top_k_experts": (3, 2, 4, 3, 5, 4),
    "kv_lora_rank": (56, 72, 64, 48, 80, 104),
    "q_lora_rank": (88, 104, 120, 80, 136, 152),
    "qk_nope_head_dim": (24, 40, 32, 56, 48, 64),
    "qk_rope_head_dim": (16, 24, 32, 8, 40, 16),
    "qk_head_dim": (40, 64, 64, 64, 88, 80),
    "v_head_dim": (32, 40, 24, 48, 56, 72),
    "index_n_heads": (2, 3, 4, 5, 6, 7),
    "index_head_dim": (36, 52, 60, 44, 68, 76),
    "index_topk": (80, 96, 72, 88, 64, 56),
    "linear_num_heads": (6, 4, 10, 8, 12, 14),
    "linear_head_dim": (28, 44, 20, 32, 36, 24),
    "linear_num_key_heads": (3, 2, 5, 4, 6, 7),
    "linear_num_value_heads": (6, 6, 10, 8, 12, 14),
    "linear_key_head_dim": (28, 44, 20, 32, 36, 24),
    "linear_value_head_dim": (36, 52, 24, 40, 44, 28),
    **_alike((2048, 2304, 2560, 2816, 3072, 3328), "max_position_embeddings", "n_positions", "max_seq_len", "n_ctx",
             "context_length"),
    **_alike((0, 0, 0, 0, 0, 0), "num_nextn_predict_layers", "num_logits_to_keep"),
}  # fmt: skip
"""Config field -> what it is in each size: numbers that share no ratio, and still divide each other where they must."""

DEPTHS = (
    "num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "num_decoder_layers",
)  # fmt: skip
NO_WINDOW, SHORT_WINDOW = 4096, 64
"""Longer than any sequence that is traced, and shorter: layers of a type with a window are traced both ways."""
TOKENS = ("pad_token_id", "bos_token_id", "eos_token_id")
NOT_DROPOUT = ("classifier_dropout",)

LATENT = {"num_key_value_heads": (10, 8, 12, 6, 9, 16)}
CHUNKS = (64, 32, 128, 64, 32, 128)
"""Which divide the lengths that are traced, each by another number."""
STATES = {
    "mamba_d_state": (32, 48, 40, 56, 24, 72),
    "mamba_n_heads": (10, 14, 20, 12, 16, 32),
    "mamba_d_head": (64, 64, 48, 64, 72, 40),
    "mamba_chunk_size": CHUNKS,
}

SELECTIVE = {"state_size": (16, 24, 20, 12, 28, 8), "time_step_rank": (22, 26, 34, 18, 38, 42)}


GEMMA4 = {"hidden_size_per_layer_input": 0, "attention_k_eq_v": True, "num_kv_shared_layers": 0}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "gemma4_text": {
        "_dense": {**GEMMA4, "enable_moe_block": False},
        "_experts": {**GEMMA4, "enable_moe_block": True},
    },
    "falcon_h1": {"_normed": {"mamba_rms_norm": True}},
}
"""Switches of a type's published models that make its layers allocate otherwise: each has a file of costs of its own,
named by the type and this."""


MORE_LAYERS = {"gemma3n_text": 8, "gemma4_text": 4}
"""Layers of the small models of types that have more kinds of them than the usual depths have layers."""


class ByLayer(tuple[Any, ...]):
    """What a list by layer repeats, to the depth of a model."""

    __slots__ = ()


class FromTheEnd(ByLayer):
    """The same, so that the last layer is of the last kind, as the class makes it."""

    __slots__ = ()


def _turns(*sections: tuple[int, int, int]) -> tuple[dict[str, Any], ...]:
    """Return the rotations of layers with a window and without, in each size: parts of half a head."""
    rotations = [
        {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [*parts]}
        for parts in sections
    ]
    return tuple({"full_attention": own, "sliding_attention": own} for own in rotations)


MIXED = ByLayer(("linear_attention", "full_attention", "linear_attention"))
PATTERNS = {
    "nemotron_h": {
        "layers_block_type": (
            "hybrid_override_pattern",
            {"M": "linear_attention", "E": "moe", "*": "full_attention", "-": "mlp"},
        )
    },
}
"""Lists by layer that older configs give as a string of letters (configuration_nemotron_h.py, 5.24.0)."""
SPECIAL: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        ("axk1", "axk2", "dots3_note_text", "minicpm3", "mistral4", "sarvam_mla", "youtu"),
        LATENT,
    ),
    "kimi_linear": {**LATENT, "q_lora_rank": None},  # as published
    "glm_moe_dsa": {**LATENT, "indexer_types": ByLayer(("full", "shared", "full"))},
    # logits are more than the streams of its last layer, as published
    "hy_v4": {"vocab_size": (6624, 7248, 9072, 7824, 9648, 8496)},
    "cohere_compass_text": {
        "rope_parameters": _turns((8, 4, 4), (12, 8, 8), (8, 6, 6), (12, 10, 10), (12, 10, 10), (8, 6, 6)),
    },
    "longcat_flash": {**LATENT, "head_dim": (16, 24, 32, 8, 40, 16), "num_layers": 3},
    "afmoe": {"global_attn_every_n_layers": 2, "num_dense_layers": 2},
    "bamba": {**STATES, "attn_layer_indices": [1, 4]},
    "granitemoehybrid": {**STATES, "layer_types": MIXED},
    "lfm2": {
        "layer_types": ByLayer(("conv", "full_attention", "conv")), "block_multiple_of": (16, 24, 8, 40, 56, 32),
    },
    "lfm2_moe": {"layer_types": ByLayer(("conv", "full_attention", "conv"))},
    "jamba": {
        "attn_layer_period": 3, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1,
        "mamba_d_state": (16, 24, 20, 12, 28, 8), "mamba_dt_rank": (20, 28, 30, 24, 36, 40),
    },
    "nemotron_h": {
        "layers_block_type": ByLayer(("linear_attention", "full_attention", "moe", "mlp")), "n_groups": (2, 1, 4, 2, 4, 8),
        "ssm_state_size": (32, 48, 40, 56, 24, 72), "mamba_num_heads": (10, 14, 20, 12, 16, 32),
        "mamba_head_dim": (56, 72, 40, 64, 48, 80), "chunk_size": CHUNKS,
    },
    "falcon_h1": {
        "mamba_n_heads": (8, 7, 15, 12, 18, 20), "mamba_d_head": (64, 96, 40, 56, 48, 72),
        "mamba_d_state": (32, 48, 40, 56, 24, 72), "mamba_d_ssm": (512, 672, 600, 672, 864, 1440), "mamba_chunk_size": CHUNKS,
    },
    "distilbert": {
        "dim": (320, 448, 480, 384, 576, 640), "hidden_dim": (832, 992, 1184, 1088, 1248, 1376),
    },
    "deberta-v2": {
        "relative_attention": True, "position_buckets": (32, 40, 48, 56, 24, 64), "norm_rel_ebd": "layer_norm",
        "share_att_key": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False,
        "pooler_hidden_size": (320, 448, 480, 384, 576, 640),
    },
    "mpt": {"n_heads": (8, 8, 16, 8, 16, 16)},
    "diffllama": {"num_key_value_heads": (2, 4, 6, 2, 4, 8), "num_attention_heads": (10, 8, 12, 6, 8, 16)},
    "gpt_neo": {"attention_types": [[["global", "local"], 3]], "num_layers": 6},
    "dots1": {"n_shared_experts": 2, "first_k_dense_replace": 2},
    "helium": {"head_dim": (32, 56, 40, 64, 64, 40)},
    "zaya": {"num_experts_per_tok": 1},
    "mamba": {"expand": (2, 3, 2, 3, 2, 3), **SELECTIVE},
    "falcon_mamba": {"expand": (4, 3, 3, 3, 2, 2), **SELECTIVE},  # its tables count from 1024 elements on, in every size
    "mamba2": {
        "num_heads": (10, 14, 20, 12, 16, 32), "head_dim": (64, 64, 48, 64, 72, 40), "n_groups": 1, "chunk_size": CHUNKS,
        "state_size": (32, 48, 40, 56, 24, 72),
    },
    "codegen": {"rotary_dim": (16, 24, 32, 48, 8, 36), "n_head": (8, 8, 12, 8, 8, 16), "n_embd": (320, 448, 480, 384, 576, 640)},
    "xlm": {"emb_dim": (320, 448, 480, 384, 576, 640), "n_heads": (10, 8, 12, 6, 9, 16)},
    "reformer": {"is_decoder": True},
    "gemma3n_text": {
        "num_kv_shared_layers": 3, "hidden_size_per_layer_input": (64, 96, 88, 112, 72, 80), "laurel_rank": (36, 44, 52, 60, 28, 68),
        "vocab_size_per_layer_input": (1088, 1192, 1496, 1288, 1592, 1400),
        "layer_types": ByLayer(("sliding_attention", "full_attention")),
        "activation_sparsity_pattern": ByLayer((*[0.95] * 4, *[0.0] * 60)),
    },
    "gemma4_text": {
        "final_logit_softcapping": 30.0, "global_head_dim": (272, 288, 320, 264, 304, 336), "hidden_size_per_layer_input": (64, 96, 88, 112, 72, 80),
        "num_kv_shared_layers": 3, "vocab_size_per_layer_input": (1088, 1192, 1496, 1288, 1592, 1400),
        "layer_types": FromTheEnd(("sliding_attention", "full_attention")),
    },
    "xglm": {"attention_heads": (10, 8, 12, 6, 9, 16)},
    "mimo_v2_flash": {  # windowed layers have twice as many heads of keys
        "num_attention_heads": (12, 32, 18, 12, 24, 32), "num_key_value_heads": (2, 4, 3, 3, 3, 8),
    },
    "xlnet": {"d_head": (32, 56, 40, 64, 64, 40)},
}  # fmt: skip
"""What a type's own rules ask for beside the usual."""


def class_of_type(model_type: str, head: str = "masked_lm") -> str:
    """Return the class of a type that its table is made from: its language model, or an encoder with a head."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    register()
    found = encoder_class(model_type, head) or MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(model_type)
    return found or _unmapped_class(model_type)


def _unmapped_class(model_type: str) -> str:
    """Return the language model of a type that no Auto class knows, as Mistral 4 inside Mistral 3; raise KeyError where
    it has none."""
    from transformers import CONFIG_MAPPING

    config_class = CONFIG_MAPPING[model_type]
    module = importlib.import_module(config_class.__module__.replace("configuration_", "modeling_"))
    for name, found in vars(module).items():
        if name.endswith("ForCausalLM") and getattr(found, "config_class", None) is config_class:
            return name
    raise KeyError(model_type)


def of_variant(name: str) -> tuple[str, dict[str, Any]]:
    """Return the type that a file of costs is of, and what its small models have otherwise than the type's usual ones."""
    name, has_window = name.removesuffix(WINDOWED), name.endswith(WINDOWED)
    found = next(
        (
            (model_type, dict(more))
            for model_type, variants in VARIANTS.items()
            for suffix, more in variants.items()
            if name == model_type + suffix
        ),
        (name, {}),
    )
    if has_window:
        found[1].update(dict.fromkeys(windows_of(found[0]), SHORT_WINDOW))
    return found


def windows_of(model_type: str) -> tuple[str, ...]:
    """Return the fields with the length of a window that a type has by default."""
    from transformers import CONFIG_MAPPING

    register()
    fields = config_fields(CONFIG_MAPPING[model_type])
    return tuple(name for name in WINDOWS if isinstance(w := fields.get(name), int) and w > 0)


def small_type_config(
    model_type: str,
    size: int = 0,
    depth: int = 6,
    more: Mapping[str, Any] | None = None,
    head: str = "masked_lm",
) -> dict[str, Any]:
    """Return the small config of a type, or of a variant of it, in one size; what its fields do not name stays as the
    class has it.

    `head`: of an encoder, the objective whose class it is.
    """
    from transformers import CONFIG_MAPPING

    model_type, variant = of_variant(model_type)
    is_sharing = variant.get("num_kv_shared_layers") != 0
    depth += MORE_LAYERS.get(model_type, 0) if is_sharing else 0
    found: dict[str, Any] = {
        "model_type": model_type,
        "architectures": [class_of_type(model_type, head)],
        "tie_word_embeddings": False,
    }
    for name, default in config_fields(CONFIG_MAPPING[model_type]).items():
        if name in SIZES:
            found[name] = SIZES[name][size]
        elif name in DEPTHS:
            found[name] = depth
        elif is_dropout(name, default) and "layerdrop" in name:
            found[name] = 0.0
    found.update(dict.fromkeys(TOKENS, 0))
    found.update(dict.fromkeys(windows_of(model_type), NO_WINDOW))
    for name, value in SPECIAL.get(model_type, {}).items():
        if isinstance(value, ByLayer):
            first = depth if isinstance(value, FromTheEnd) and is_sharing else 0
            found[name] = [value[(place - first) % len(value)] for place in range(depth)]
            found.setdefault("num_hidden_layers", depth)
        else:
            found[name] = value[size] if isinstance(value, tuple) else value
    if head == CAUSAL_LM:
        found["is_decoder"] = True
    found.update({**variant, **(more or {})})
    return found


def config_fields(config_class: Any) -> dict[str, Any]:
    """Return the fields that a config class has of its own, with their defaults."""
    from transformers import PreTrainedConfig

    inherited = {field.name for field in dataclasses.fields(PreTrainedConfig)}
    found = {
        field.name: field.default
        for field in dataclasses.fields(config_class)
        if field.name not in inherited
    }
    return {**found, **TAKEN_IN.get(config_class.model_type, {})}


GEMMA4_KEYS = {"global_head_dim": 512, "num_global_key_value_heads": None}
TAKEN_IN: dict[str, dict[str, Any]] = {
    "falcon_h1": {"head_dim": None},
    "deberta-v2": {"share_att_key": False, "norm_rel_ebd": "none", "position_buckets": -1},
    "gemma4_text": GEMMA4_KEYS,
    "gemma4_unified_text": GEMMA4_KEYS,
}
"""Keys that a config class takes and does not declare (configuration_*.py, modeling_*.py, 5.24.0)."""


def is_dropout(name: str, default: Any) -> bool:
    """Tell whether a field is a probability of dropout."""
    named = ("dropout" in name or name.endswith(("pdrop", "layerdrop"))) and name not in NOT_DROPOUT
    return named and isinstance(default, (int, float)) and not isinstance(default, bool)
