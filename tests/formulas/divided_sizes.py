"""The small model whose steps are counted while ranks divide it, and what DeepSpeed is given beside it."""

from __future__ import annotations

SIZES = {
    "model_type": "llama", "hidden_size": 256, "intermediate_size": 704, "num_attention_heads": 8,
    "num_key_value_heads": 4, "vocab_size": 2048, "tie_word_embeddings": False,
}  # fmt: skip
BUCKETS = {
    "overlap_comm": False,
    "reduce_bucket_size": 500_000,
    "allgather_bucket_size": 500_000,
    "stage3_prefetch_bucket_size": 100_000,
    "stage3_max_live_parameters": 1_000_000,
    "stage3_max_reuse_distance": 1_000_000,
    "stage3_param_persistence_threshold": 0,
}
"""In elements, so that little but activations is counted."""
