"""The pools of the streams that gather and reduce, beside the allocator replayed with the host ahead of the device."""

from __future__ import annotations

from dataclasses import replace

import pytest
from caching_allocator import SYNC, CachingAllocator
from step_events import step_events

from preflight.judge import estimate_memory
from preflight.launch import LaunchPlan
from preflight.memory import Level, MemoryEstimate, Moment
from preflight.models import describe
from preflight.units import MIB

MODEL = describe(
    {
        "model_type": "llama", "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 12,
        "num_attention_heads": 16, "num_key_value_heads": 8, "vocab_size": 32000, "tie_word_embeddings": False,
    },
    "side pools",
    "test",
)  # fmt: skip
BASE = LaunchPlan(
    engine="fsdp1", trainer="transformers", world_size=8, shard_degree=8, load_dtype="fp32",
    mixed_precision="bf16", reduce_dtype="fp32", optimizer="adamw_torch", micro_batch_size=4, seq_len=2048,
    activation_checkpointing="full", attention="flash_attention_2", loss="full_logits", sequence_kind="packed",
)  # fmt: skip
PLANS = {
    "fsdp1": BASE,
    "fsdp1, reduced in bf16": replace(BASE, reduce_dtype=None),
    "fsdp1 of torchtitan": replace(BASE, trainer="torchtitan", reshard_after_forward="default"),
    "fsdp2 of torchtitan in 2024": replace(BASE, engine="fsdp2", trainer="torchtitan"),
    "fsdp2 of torch 2.5": replace(BASE, engine="fsdp2", versions={"torch": "2.5.1"}),
    "fsdp2": replace(BASE, engine="fsdp2", versions={"torch": "2.13.0"}),
}


def pool_of(estimate: MemoryEstimate, stream: str) -> int:
    """Return what the closed form reserves on a stream, the most of all moments."""
    levels = (Level.ALLOCATED, Level.RESERVED)
    return max(
        sum(
            t.num_bytes
            for t in estimate.terms_at(moment)
            if t.stream == stream and t.level in levels
        )
        for moment in Moment
    )


def replayed_pools(plan: LaunchPlan, estimate: MemoryEstimate) -> dict[str, int]:
    """Return what each stream reserves in two replayed steps."""
    allocator = CachingAllocator(plan.expandable_segments)
    for number, num_bytes, stream in step_events(plan, MODEL, estimate.terms):
        if number == SYNC:
            allocator.sync()
        elif num_bytes:
            allocator.allocate(number, num_bytes, stream)
        else:
            allocator.free(number, stream)
    pools: dict[str, int] = {}
    for (stream, _), pool in allocator.pools.items():
        pools[stream] = pools.get(stream, 0) + pool.reserved_bytes
    return pools


@pytest.mark.parametrize("name", PLANS)
def test_the_pool_that_reduces_is_as_large_as_the_replay_makes_it(name, plugins):
    estimate = estimate_memory(PLANS[name], MODEL, None, plugins)
    replayed = replayed_pools(PLANS[name], estimate)["reduce_scatter"]

    # every shard of a layer is rounded up to 2 MiB, and a few of them lie in what larger blocks left
    rounding = 2 * MIB * (MODEL.num_layers + 4)
    assert abs(replayed - pool_of(estimate, "reduce_scatter")) <= rounding


@pytest.mark.parametrize("name", [name for name in PLANS if name.startswith("fsdp1")])
def test_the_pool_that_gathers_holds_three_layers_and_the_root_unit(name, plugins):
    estimate = estimate_memory(PLANS[name], MODEL, None, plugins)
    replayed = replayed_pools(PLANS[name], estimate)["all_gather"]

    assert abs(replayed - pool_of(estimate, "all_gather")) <= 4 * 2 * MIB


def test_what_no_later_unit_can_use_is_held_beside_it(plugins):
    """A root unit larger than a layer finds no block that layers left; a smaller one does."""
    estimate = estimate_memory(BASE, MODEL, None, plugins)
    small = replace(MODEL, units=tuple(u for u in MODEL.units if u.role != "lm_head"))
    without_head = estimate_memory(BASE, small, None, plugins)

    named = "blocks of two layers, too small for what is reduced next"
    assert named in {t.name for t in estimate.terms}
    assert pool_of(without_head, "reduce_scatter") < pool_of(estimate, "reduce_scatter")


@pytest.mark.parametrize(
    ("trainer", "versions", "beside"),
    [
        ("transformers", {"torch": "2.5.1"}, True),
        ("transformers", {"torch": "2.6.0"}, False),
        ("transformers", {}, False),
        ("torchtitan", {}, True),
        ("torchtitan", {"torchtitan": "0.1.0"}, False),
        ("torchtitan", {"torch": "2.8.0"}, False),
    ],
)
def test_fsdp2_makes_the_input_of_reduce_scatter_where_its_torch_does(
    trainer, versions, beside, plugins
):
    plan = replace(BASE, engine="fsdp2", trainer=trainer, versions=versions)
    terms = estimate_memory(plan, MODEL, None, plugins).terms
    streams = {t.stream for t in terms if t.name.startswith("reduce-scatter input")}

    assert streams == {"reduce_scatter" if beside else "default"}
