"""The small Llama that real steps are counted on, and sizes of ZeRO's buckets that it fills."""

from __future__ import annotations

LLAMA = {
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 2048,
    "tie_word_embeddings": False,
}
ZERO = {
    "reduce_bucket_size": 900_000,
    "allgather_bucket_size": 900_000,
    "overlap_comm": False,
    "stage3_param_persistence_threshold": 0,
    "stage3_prefetch_bucket_size": 500_000,
    "stage3_max_live_parameters": 10**9,
    "stage3_max_reuse_distance": 10**9,
}
