"""What FSDP1 leaves in the pool when it wraps a model, beside the same allocations replayed through the allocator."""

from __future__ import annotations

from dataclasses import replace

import pytest
from caching_allocator import Event, replay

from preflight.formulas.freed_blocks import BUCKET_BYTES, blocks_left_by_sharding
from preflight.formulas.segments import SMALL_BLOCKS
from preflight.judge import estimate_memory
from preflight.launch import Adapter, BaseQuantization, LaunchPlan
from preflight.models import describe

HIDDEN, WIDTH, VOCAB, NUM_LAYERS = 4096, 11008, 32000, 32
LAYER = [HIDDEN * HIDDEN] * 4 + [HIDDEN * WIDTH] * 3 + [HIDDEN] * 2
ROOT = [VOCAB * HIDDEN, HIDDEN, VOCAB * HIDDEN]
LLAMA = describe(
    {
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": WIDTH,
        "num_hidden_layers": NUM_LAYERS,
        "num_attention_heads": 32,
        "vocab_size": VOCAB,
        "tie_word_embeddings": False,
    },
    "llama",
    "test",
)


def wrapped(layer: list[int], root: list[int], degree: int, broadcasts: bool) -> tuple[int, int]:
    """Return the bytes reserved and alive after wrapping every layer and the root, as FSDP1 does it."""
    events: list[Event] = []
    alive = number = 0

    def make(num_bytes: int) -> int:
        nonlocal number
        number += 1
        events.append((number, num_bytes, "default"))
        return number

    for unit in [layer] * NUM_LAYERS + [root]:
        own = [make(num_bytes) for num_bytes in unit]
        bucket, copies = 0, []
        for place, num_bytes in enumerate(unit if broadcasts else ()):
            bucket += num_bytes
            if bucket >= BUCKET_BYTES or place == len(unit) - 1:
                copies.append(make(bucket))
                bucket = 0
            if len(copies) == 2:
                events.append((copies.pop(0), 0, "default"))
        events += [(copy, 0, "default") for copy in copies]
        flat = make(sum(unit))
        events += [(tensor, 0, "default") for tensor in own]
        make(sum(unit) // degree)
        alive += sum(unit) // degree
        events.append((flat, 0, "default"))
    return replay(events).reserved_bytes, alive


@pytest.mark.parametrize(("broadcasts", "tolerance"), [(True, 0.06), (False, 0.11)])
@pytest.mark.parametrize(
    ("of_layer", "of_root", "degree"),
    [(0.5, 2, 2), (2, 2, 2), (2, 2, 8), (4, 4, 8)],
    ids=["4 bits", "16 bits", "16 bits, 8 ranks", "32 bits, 8 ranks"],
)
def test_one_layer_and_the_root_tell_what_all_units_leave(
    of_layer, of_root, degree, broadcasts, tolerance
):
    layer, root = [int(of_layer * n) for n in LAYER], [of_root * n for n in ROOT]
    left = blocks_left_by_sharding(layer, root, degree, broadcasts, True)
    reserved, alive = wrapped(layer, root, degree, broadcasts)

    assert alive + left.num_bytes == pytest.approx(reserved, rel=tolerance)


def test_shards_that_go_to_the_host_leave_every_block_whole():
    left = blocks_left_by_sharding(LAYER, ROOT, 2, False, False)
    kept = blocks_left_by_sharding(LAYER, ROOT, 2, False, True)

    assert left.num_bytes > kept.num_bytes
    assert sum(LAYER) - 2 * HIDDEN in left.blocks


def test_a_block_serves_no_tensor_that_is_larger():
    left = blocks_left_by_sharding(LAYER, ROOT, 2, False, False)
    whole = max(left.blocks)

    assert left.smaller_than(1) == 0
    assert left.smaller_than(whole) == left.num_bytes - whole * left.blocks.count(whole)
    assert left.smaller_than(whole + 1) == left.num_bytes


PLAN = LaunchPlan(
    engine="fsdp1",
    trainer="plain_loop",
    world_size=2,
    shard_degree=2,
    load_dtype="bf16",
    optimizer="adamw_torch",
    micro_batch_size=1,
    seq_len=512,
    activation_checkpointing="full",
    attention="sdpa",
    adapter=Adapter("lora", 64, 16, 0.1, "all-linear"),
    versions={"transformers": "4.38.2", "torch": "2.2.1", "peft": "0.9.0"},
)


@pytest.mark.parametrize("quantized", [False, True])
def test_a_short_step_reserves_what_wrapping_did_and_what_no_block_of_it_serves(quantized, plugins):
    """Gathered units are on another stream, and states of adapters too small for the blocks that are free."""
    base = BaseQuantization("nf4", True, "bf16", "bf16") if quantized else None
    estimate = estimate_memory(replace(PLAN, base_quantization=base), LLAMA, None, plugins)
    layer = [int((0.5 if quantized else 2) * n) for n in LAYER]
    reserved, _ = wrapped(layer, [2 * n for n in ROOT], 2, True)
    small = sum(t.num_bytes for t in estimate.terms if t.stream == SMALL_BLOCKS)
    peak = max(estimate.peaks, key=lambda peak: peak.reserved_bytes)
    others = {"all_gather", "reduce_scatter"}
    beside = sum(t.num_bytes for t in estimate.terms_of(peak) if t.stream in others)

    assert small > 0
    assert estimate.reserved_peak_bytes == pytest.approx(reserved + small + beside, rel=0.08)


def test_expandable_segments_leave_no_block_too_small(plugins):
    estimate = estimate_memory(replace(PLAN, expandable_segments=True), LLAMA, None, plugins)

    assert "blocks that sharding left, too small for a step" not in {
        term.name for term in estimate.terms
    }
