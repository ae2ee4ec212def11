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
