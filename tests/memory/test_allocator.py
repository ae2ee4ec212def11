"""The closed form of what is reserved, beside the allocator replayed on whole training steps."""

from __future__ import annotations

from dataclasses import replace

import pytest
from step_events import step_events

from preflight.allocator import reserved_terms
from preflight.caching_allocator import AllocatorPeaks, Event, replay
from preflight.families import describe
from preflight.launch import Adapter, LaunchPlan
from preflight.memory import ALWAYS, Level, MemoryEstimate, MemoryTerm, Moment
from preflight.pipeline import estimate_memory
from preflight.trace.job import job_of
from preflight.trace.log import HOST
from preflight.trace.run import trace

CONFIG = {
    "model_type": "llama",
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 12,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
    "tie_word_embeddings": False,
}
LLAMA = describe(CONFIG, "allocator", "test")
BASE = LaunchPlan(
    engine="single",
    trainer="transformers",
    load_dtype="bf16",
    mixed_precision="no",
    optimizer="adamw_torch",
    micro_batch_size=4,
    seq_len=4096,
    activation_checkpointing="full",
    attention="flash_attention_2",
    loss="full_logits",
    sequence_kind="packed",
)
FSDP = {"world_size": 8, "shard_degree": 8, "mixed_precision": "bf16", "load_dtype": "fp32"}
PLANS = {
    "single": BASE,
    "single, nothing checkpointed": replace(BASE, activation_checkpointing="none"),
    "single, lora": replace(BASE, adapter=Adapter("lora", 16, 32, 0.0, "all-linear")),
    "fsdp1": replace(BASE, engine="fsdp1", **FSDP),
    "fsdp2": replace(BASE, engine="fsdp2", reshard_after_forward=True, **FSDP),
}
ALL_PLANS = pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())


def both(plan: LaunchPlan, plugins) -> tuple[MemoryEstimate, AllocatorPeaks]:
    """Return the closed form of a plan and the replay of two steps."""
    estimate = estimate_memory(plan, LLAMA, None, plugins)
    events = step_events(plan, LLAMA, estimate.terms)
    return estimate, replay(events, expandable=plan.expandable_segments)


@ALL_PLANS
def test_the_replayed_steps_hold_the_live_tensors_of_the_closed_form(plan, plugins):
    estimate, peaks = both(plan, plugins)

    assert peaks.allocated_bytes == pytest.approx(estimate.allocated_peak_bytes, rel=0.05)


@ALL_PLANS
def test_the_closed_form_reserves_what_the_replay_does_within_a_fifth(plan, plugins):
    estimate, peaks = both(plan, plugins)

    assert peaks.reserved_bytes == pytest.approx(estimate.reserved_peak_bytes, rel=0.2)


@ALL_PLANS
def test_expandable_segments_lose_nothing_in_the_closed_form_and_little_in_the_replay(
    plan, plugins
):
    """They may lose a little more than native ones: a hole below a live block is no use to a larger one."""
    estimate, peaks = both(plan, plugins)
    growing, growing_peaks = both(replace(plan, expandable_segments=True), plugins)

    assert growing.reserved_peak_bytes <= estimate.reserved_peak_bytes
    assert growing_peaks.reserved_bytes <= 1.02 * peaks.reserved_bytes


def traced(plan: LaunchPlan) -> list[Event]:
    """Return the allocations of two steps as PyTorch itself orders them, all on one stream."""
    log = trace(job_of(replace(plan, model_config=CONFIG), LLAMA, full_depth=True)).log
    sizes, events = log.sizes, []
    for number in log.events:
        made = number if number >= 0 else ~number
        if sizes[made] and log.categories[made] != HOST:
            events.append((made, sizes[made] if number >= 0 else 0, "default"))
    return events


@pytest.mark.parametrize("name", ["single, nothing checkpointed", "single, lora"])
def test_the_order_of_a_trace_reserves_what_the_closed_form_says(name, plugins):
    plan = replace(PLANS[name], attention="sdpa")
    estimate, written_down = both(plan, plugins)
    peaks = replay(traced(plan))

    assert peaks.reserved_bytes == pytest.approx(estimate.reserved_peak_bytes, rel=0.03)
    assert peaks.reserved_bytes == pytest.approx(written_down.reserved_bytes, rel=0.1)


def term(name: str, num_bytes: int, moments, **rest) -> MemoryTerm:
    return MemoryTerm(name, num_bytes, frozenset(moments), **rest)


def reserved(*terms: MemoryTerm, plan: LaunchPlan = BASE) -> dict[str, int]:
    return {t.name: t.num_bytes for t in reserved_terms(terms, plan)}


STATES = term("states", 100, ALWAYS, from_second_step=True)
TAKEN = "segments of the first step taken by optimizer states"


def test_states_take_no_more_than_passed_through_their_own_stream():
    passing = term("activations", 60, {Moment.FORWARD})
    gathered = term("gathered", 80, {Moment.FORWARD}, stream="all_gather")

    assert reserved(STATES, passing)[TAKEN] == 60
    assert reserved(STATES, passing, gathered)[TAKEN] == 60


def test_segments_that_the_loss_lost_are_not_lost_again_to_the_states():
    passing = term("activations", 60, {Moment.FORWARD})
    lost = term("lost", 20, {Moment.FORWARD}, level=Level.RESERVED)
    workspace = term("workspace", 20, ALWAYS, level=Level.RESERVED)

    assert reserved(STATES, passing, lost)[TAKEN] == 40
    assert reserved(STATES, passing, workspace)[TAKEN] == 60


def test_the_pool_of_a_side_stream_stays_as_large_as_it_was():
    shards = term("gradients", 70, {Moment.OPTIMIZER_STEP}, stream="reduce_scatter")

    assert reserved(shards) == {"idle pool of the reduce_scatter stream": 70}


def test_gradient_shards_of_fsdp_lie_in_the_pool_of_the_stream_that_reduces(plugins):
    for name, plan in PLANS.items():
        streams = {
            t.stream
            for t in estimate_memory(plan, LLAMA, None, plugins).terms
            if t.name.startswith("gradient") and t.name in ("gradients", "gradient of the head")
        }

        assert streams == {"reduce_scatter" if "fsdp" in name else "default"}
