"""Models and degrees of the steps of torchtitan's graph trainer that are counted."""

from __future__ import annotations

from typing import Any

LLAMA = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False,
}  # fmt: skip
SMALL = {
    "model_type": "llama", "hidden_size": 256, "intermediate_size": 768, "num_attention_heads": 16,
    "num_key_value_heads": 16, "vocab_size": 2048, "tie_word_embeddings": False,
}  # fmt: skip
QWEN = {
    "model_type": "qwen3", "hidden_size": 5120, "intermediate_size": 17408, "num_attention_heads": 40,
    "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "tie_word_embeddings": False,
}  # fmt: skip
TIED = {**QWEN, "hidden_size": 1024, "intermediate_size": 3072, "num_attention_heads": 16, "tie_word_embeddings": True}  # fmt: skip
EXPERTS = {
    **QWEN, "model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768,
    "num_attention_heads": 32, "num_key_value_heads": 4, "num_experts": 128, "num_experts_per_tok": 8,
    "decoder_sparse_step": 1, "norm_topk_prob": True, "mlp_only_layers": [],
}  # fmt: skip
LATENT = {
    "model_type": "deepseek_v2", "hidden_size": 2048, "intermediate_size": 10944, "moe_intermediate_size": 1408,
    "num_attention_heads": 16, "num_key_value_heads": 16, "kv_lora_rank": 512, "q_lora_rank": None,
    "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "n_routed_experts": 64, "n_shared_experts": 2,
    "num_experts_per_tok": 6, "first_k_dense_replace": 1, "moe_layer_freq": 1, "vocab_size": 102400,
    "tie_word_embeddings": False,
}  # fmt: skip
MIXTURE = {
    **LATENT, "hidden_size": 256, "intermediate_size": 1024, "moe_intermediate_size": 256, "n_routed_experts": 8,
    "num_experts_per_tok": 3, "vocab_size": 2048,
}  # fmt: skip
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("llama3", "8B", LLAMA),
    "small": ("llama3", "debugmodel", SMALL),
    "qwen": ("qwen3", "14B", QWEN),
    "tied": ("qwen3", "0.6B", TIED),
    "experts": ("qwen3", "30B-A3B", EXPERTS),
    "latent": ("deepseek_v3", "16B", LATENT),
    "mixture": ("deepseek_v3", "debugmodel", MIXTURE),
}
"""What a case's name begins with -> family and flavor of torchtitan's model, and its sizes."""
CASES: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama, deep": {"layers": 12},
    "llama, short": {"length": 1024, "layers": 2},
    "llama, long": {"length": 32768},
    "llama, rows": {"length": 2048, "rows": 8},
    "llama, tensor": {"tensor": 2, "shard": 4, "layers": 8},
    "llama, tensor 8": {"tensor": 8, "shard": 2, "layers": 8, "rows": 4},
    "llama, full": {"policy": "full", "layers": 8},
    "llama, every second": {"policy": "eager"},
    "llama, unsharded": {"reshard": "never"},
    "llama, copies": {"replicate": 2, "shard": 4},
    "llama, two": {"shard": 2},
    "small": {"layers": 6, "length": 2048, "rows": 8},
    "small, many": {"layers": 6, "length": 2048, "rows": 8, "shard": 64},
    "qwen": {},
    "qwen, tensor": {"tensor": 4, "shard": 2},
    "tied": {"layers": 8, "length": 4096, "rows": 4},
    "experts": {"layers": 3, "length": 4096},
    "experts, full": {"layers": 3, "length": 4096, "policy": "full"},
    "experts, short": {"layers": 6, "length": 512},
    "experts, copies": {"layers": 3, "length": 2048, "replicate": 4, "shard": 2},
    "latent, shared": {"length": 4096, "rows": 4, "tensor": 2, "shard": 4, "experts": 2},
    "latent, shared, to one": {"length": 4096, "rows": 4, "tensor": 2, "shard": 4, "experts": 2, "to_one": True},
    "latent, shared by all": {"length": 4096, "rows": 4, "experts": 8},
    "latent, shared by all, to one": {"length": 4096, "rows": 2, "experts": 8, "to_one": True},
    "latent, shared by all, deep": {"length": 2048, "layers": 12, "experts": 8, "to_one": True},
    "mixture": {"layers": 6, "length": 2048, "rows": 8},
    "mixture, shared, to one": {"layers": 6, "length": 2048, "rows": 8, "tensor": 2, "shard": 4, "experts": 4, "to_one": True},
    "latent": {"length": 4096, "rows": 4},
    "latent, tensor": {"length": 4096, "rows": 4, "tensor": 2, "shard": 4},
    "latent, short": {"length": 1024, "layers": 8},
}  # fmt: skip


def case_of(name: str) -> dict[str, Any]:
    """Return everything of a case that its name does not say: `experts` ranks share them, and all send to one or evenly."""
    family, flavor, sizes = MODELS[name.partition(",")[0]]
    case = {
        "rows": 1, "length": 8192, "layers": 4, "shard": 8, "replicate": 1, "tensor": 1, "policy": "default",
        "reshard": "default", "experts": 1, "to_one": False, **CASES[name],
    }  # fmt: skip
    sizes = {**sizes, "num_hidden_layers": case["layers"]}
    return {**case, "family": family, "flavor": flavor, "sizes": sizes}
