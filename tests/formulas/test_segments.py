"""What native segments leave over, beside whole steps traced and replayed through the allocator."""

from __future__ import annotations

from dataclasses import replace

import pytest
from caching_allocator import Event, replay

from preflight.formulas.segments import own_segment_rest, rests_of_blocks
from preflight.judge import estimate_memory
from preflight.launch import Adapter, LaunchPlan
from preflight.models import describe
from preflight.trace.job import job_of
from preflight.trace.log import HOST
from preflight.trace.run import trace
from preflight.units import MIB

CONFIG = {
    "model_type": "llama",
    "hidden_size": 1024,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 16000,
    "tie_word_embeddings": False,
}
PLAN = LaunchPlan(
    engine="single",
    trainer="transformers",
    load_dtype="bf16",
    mixed_precision="no",
    optimizer="adamw_torch",
    micro_batch_size=8,
    seq_len=4096,
    activation_checkpointing="full",
    attention="sdpa",
    loss="full_logits",
    sequence_kind="packed",
    adapter=Adapter("lora", 16, 32, 0.0, "all-linear"),
)
NAME = "rests of blocks that layer inputs lie in"


def replayed(plan: LaunchPlan, config: dict, expandable: bool = False) -> int:
    """Return what PyTorch's own order of allocations reserves."""
    model = describe(config, "segments", "test")
    log = trace(job_of(replace(plan, model_config=config), model, full_depth=True)).log
    categories = log.settled_categories()
    events: list[Event] = []
    for number in log.events:
        made = number if number >= 0 else ~number
        if log.sizes[made] and categories[made] != HOST:
            events.append((made, log.sizes[made] if number >= 0 else 0, "default"))
    return replay(events, expandable).reserved_bytes


@pytest.mark.parametrize(("width", "has_rests"), [(2816, True), (3584, True), (4096, False)])
def test_kept_inputs_leave_the_rests_that_a_replayed_trace_has(width, has_rests, plugins):
    config = {**CONFIG, "intermediate_size": width}
    estimate = estimate_memory(PLAN, describe(config, "segments", "test"), None, plugins)
    rests = sum(t.num_bytes for t in estimate.terms if t.name == NAME)
    measured = replayed(PLAN, config)

    assert bool(rests) is has_rests
    assert estimate.reserved_peak_bytes == pytest.approx(measured, rel=0.03)
    without = estimate.reserved_peak_bytes - rests
    assert abs(estimate.reserved_peak_bytes - measured) <= abs(without - measured)


def test_expandable_segments_have_no_rests(plugins):
    config = {**CONFIG, "intermediate_size": 3584}
    plan = replace(PLAN, expandable_segments=True)
    estimate = estimate_memory(plan, describe(config, "segments", "test"), None, plugins)

    assert NAME not in {term.name for term in estimate.terms}


def test_rests_are_what_whole_tensors_leave_of_a_block():
    rests = rests_of_blocks(896, 256, 32)

    assert rests is not None
    assert (rests.num_blocks, rests.fitting, rests.num_bytes) == (11, 3, 11 * 128)
    assert rests_of_blocks(1024, 256, 32) is None
    assert rests_of_blocks(100, 256, 32) is None


def test_a_large_tensor_gets_a_segment_rounded_up():
    assert own_segment_rest(11 * MIB) == MIB
    assert own_segment_rest(12 * MIB) == 0
    assert own_segment_rest(9 * MIB) == 0
