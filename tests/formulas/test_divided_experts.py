"""Experts shared over ranks: what each of some gloo ranks keeps of a small Qwen3-MoE, beside the estimate.

divided_experts.py makes the rows again, in an environment with torchtitan 0.2.2, where tokens really go to other ranks.
"""

from __future__ import annotations

from typing import Any

import pytest
from recorded import recorded

from preflight.judge import estimate_memory
from preflight.launch import LaunchPlan
from preflight.models import describe

ROWS = recorded("divided_experts.jsonl")
KEPT = {
    "params": ("parameters, trainable",),
    "gradients": ("gradients", "gradient of the embedding"),
    "states": ("optimizer states",),
}
"""What a row counts -> the terms of the estimate that are it, by the end of backward."""


def plan_of(row: dict[str, Any]) -> LaunchPlan:
    return LaunchPlan(
        engine="fsdp2",
        world_size=len(row["ranks"]),
        shard_degree=row["shard"],
        replicate_degree=row.get("replicate", 1),
        expert_parallel_degree=row.get("experts_over", 1),
        load_dtype="fp32",
        master_dtype="fp32",
        mixed_precision="bf16",
        reduce_dtype="fp32",
        optimizer="adamw_torch_fused",
        micro_batch_size=row["batch"],
        seq_len=row["length"],
        trainer="torchtitan",
        reshard_after_forward="default",
        wrap_policy="transformer",
        versions={name: row[name] for name in ("torchtitan", "torch")},
    )


def config_of(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "model_type": "qwen3_moe",
        "hidden_size": 256,
        "intermediate_size": row["inner"],
        "moe_intermediate_size": row["inner"],
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 32,
        "vocab_size": 2048,
        "num_hidden_layers": row["layers"],
        "num_experts": row["num_experts"],
        "num_experts_per_tok": row["top_k"],
        "mlp_only_layers": [],
        "tie_word_embeddings": False,
    }


def kept_of(row: dict[str, Any], plugins) -> dict[str, int]:
    """Return what the estimate says a rank keeps, by the names of a row."""
    model = describe(config_of(row), "tiny", "test")
    terms = estimate_memory(plan_of(row), model, None, plugins).terms
    return {
        name: sum(term.num_bytes for term in terms if term.name in words)
        for name, words in KEPT.items()
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_a_rank_keeps_as_many_bytes_as_where_experts_are_sharded(row, plugins):
    """Fewer experts than ranks are cut within each expert by torchtitan: FSDP's own cut, which is estimated, takes more."""
    fullest = {name: max(rank[name] for rank in row["ranks"]) for name in KEPT}
    kept = kept_of(row, plugins)

    if row["num_experts"] >= row["shard"]:
        assert kept == fullest
    else:
        assert all(kept[name] > fullest[name] for name in KEPT)
