"""Configs of tiny models: one of each way in which layers differ."""

from __future__ import annotations

from preflight.trace.job import TraceJob

_BASE = {
    "vocab_size": 1000, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 7,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
    "tie_word_embeddings": False,
}  # fmt: skip
_EXPERTS = {"moe_intermediate_size": 32, "num_experts_per_tok": 2}

CONFIGS = {
    "llama": {**_BASE, "model_type": "llama"},
    "llama_deep": {**_BASE, "model_type": "llama", "num_hidden_layers": 12},
    "mllama": {
        "model_type": "mllama",
        "text_config": {
            **_BASE, "model_type": "mllama_text_model", "num_hidden_layers": 17, "pad_token_id": 0,
            "cross_attention_layers": [3, 8, 13],
        },
        "vision_config": {
            "hidden_size": 32, "intermediate_size": 64, "attention_heads": 2, "num_hidden_layers": 2,
            "num_global_layers": 1, "vision_output_dim": 64, "intermediate_layers_indices": [0],
        },
    },
    "llama4": {
        "model_type": "llama4",
        "text_config": {
            **_BASE, "model_type": "llama4_text", "num_hidden_layers": 16, "head_dim": 16,
            "num_local_experts": 4, "intermediate_size_mlp": 96, "attention_chunk_size": 32,
        },
        "vision_config": {
            "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2,
            "num_hidden_layers": 2, "vision_output_dim": 64, "projector_input_dim": 64,
            "projector_output_dim": 64,
        },
    },
    "qwen3_next": {
        **_BASE, **_EXPERTS, "model_type": "qwen3_next", "num_hidden_layers": 16, "num_experts": 8,
        "head_dim": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
        "linear_key_head_dim": 8, "linear_value_head_dim": 8,
        "shared_expert_intermediate_size": 32,
    },
    "qwen3_moe": {
        **_BASE, **_EXPERTS, "model_type": "qwen3_moe", "num_experts": 8, "head_dim": 16,
        "mlp_only_layers": [],
    },
    "gemma3": {
        **_BASE, "model_type": "gemma3_text", "num_hidden_layers": 13, "sliding_window": 32,
        "head_dim": 16, "tie_word_embeddings": True,
    },
    "gpt_oss": {
        **_BASE, "model_type": "gpt_oss", "num_hidden_layers": 10, "num_local_experts": 4,
        "num_experts_per_tok": 2, "sliding_window": 32, "head_dim": 16,
    },
    "deepseek_v3": {
        **_BASE, **_EXPERTS, "model_type": "deepseek_v3", "num_hidden_layers": 9,
        "num_key_value_heads": 4, "n_routed_experts": 8, "n_group": 2, "topk_group": 1,
        "kv_lora_rank": 16, "q_lora_rank": 24, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
        "v_head_dim": 8, "first_k_dense_replace": 2,
    },
    "gpt2": {
        "model_type": "gpt2", "vocab_size": 1000, "n_embd": 64, "n_layer": 7, "n_head": 4,
        "n_positions": 512,
    },
}  # fmt: skip

LORA = {
    "kind": "lora", "rank": 8, "alpha": 16, "dropout": 0.0, "targets": "all-linear",
    "modules_to_save": None,
}  # fmt: skip

NF4 = {"scheme": "nf4", "double_quant": True, "compute_dtype": "bf16", "upcast": "none"}


def job(name: str, **more) -> TraceJob:
    """Return a small job of a model: bf16, two sequences, Trainer's loop."""
    usual = {
        "micro_batch_size": 2, "seq_len": 64, "optimizer": "adamw_torch", "has_groups": True,
        "clips": True,
    }  # fmt: skip
    return TraceJob(config=CONFIGS[name], **{**usual, **more})
