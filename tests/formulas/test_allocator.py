"""The closed form of what is reserved, beside the allocator replayed on whole training steps."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import pytest
from caching_allocator import AllocatorPeaks, CachingAllocator, Event, replay
from step_events import Steps, step_events

from preflight.formulas.allocator import graph_at_most, reserved_terms
from preflight.formulas.segments import SMALL_BLOCKS
from preflight.formulas.sharding import held_tensors
from preflight.judge import estimate_memory
from preflight.launch import Adapter, LaunchPlan
from preflight.memory import ALWAYS, Level, MemoryEstimate, MemoryTerm, Moment
from preflight.models import describe
from preflight.peaks import estimate_peaks
from preflight.trace.job import job_of
from preflight.trace.log import GATHERED, GRADIENTS, HOST
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
def test_expandable_segments_lose_no_more_than_native_ones(plan, plugins):
    estimate, peaks = both(plan, plugins)
    growing, growing_peaks = both(replace(plan, expandable_segments=True), plugins)

    assert growing.reserved_peak_bytes <= estimate.reserved_peak_bytes
    assert growing_peaks.reserved_bytes <= 1.02 * peaks.reserved_bytes


@lru_cache(maxsize=1)
def traced(name: str) -> list[Event]:
    """Return the allocations of two steps as PyTorch itself orders them, on the streams of FSDP2."""
    plan = replace(PLANS[name], attention="sdpa")
    log = trace(job_of(replace(plan, model_config=CONFIG), LLAMA, full_depth=True)).log
    sizes, events = log.sizes, []
    categories = log.settled_categories()
    for number in log.events:
        made = number if number >= 0 else ~number
        if not sizes[made] or categories[made] == HOST:
            continue
        stream = "default"
        if plan.is_fsdp and categories[made] == GRADIENTS:
            stream = "reduce_scatter"
        elif categories[made] == GATHERED and log.operations[made] == "empty":
            stream = "all_gather"
        events.append((made, sizes[made] if number >= 0 else 0, stream))
    return events


@pytest.mark.parametrize("expandable", [False, True], ids=["native", "expandable"])
@pytest.mark.parametrize("name", [name for name in PLANS if name != "fsdp1"])
def test_the_order_of_a_trace_reserves_what_the_closed_form_says(name, expandable, plugins):
    """Nothing is fitted to these; traces have no FSDP1."""
    plan = replace(PLANS[name], attention="sdpa", expandable_segments=expandable)
    estimate, _ = both(plan, plugins)
    peaks = replay(traced(name), expandable)

    assert peaks.allocated_bytes == pytest.approx(estimate.allocated_peak_bytes, rel=0.01)
    assert peaks.reserved_bytes == pytest.approx(estimate.reserved_peak_bytes, rel=0.15)


def test_states_as_large_as_all_activations_find_room_where_gradients_were(plugins):
    """One 7B model on one GPU: the step's own peak is larger than that of the turn, and what it frees serves."""
    large = {**CONFIG, "hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 11008}
    plan = replace(
        PLANS["single, nothing checkpointed"], micro_batch_size=2, seq_len=2048, attention="sdpa"
    )
    estimate = estimate_memory(plan, describe(large, "large", "test"), None, plugins)

    assert estimate.reserved_peak_bytes < 1.05 * estimate.allocated_peak_bytes


def term(name: str, num_bytes: int, moments, **rest) -> MemoryTerm:
    return MemoryTerm(name, num_bytes, frozenset(moments), **rest)


def reserved(*terms: MemoryTerm, plan: LaunchPlan = BASE) -> dict[str, int]:
    return {t.name: t.num_bytes for t in reserved_terms(terms, plan)}


STATES = term("states", 100, ALWAYS, from_second_step=True)
LAYER = term("activations", 60, {Moment.FORWARD})
LOSS = term("logits", 80, {Moment.LOSS_BACKWARD})
APART = "blocks of layers too small for the loss"
BROKEN = "blocks that optimizer states broke up"


def test_a_loss_does_not_share_blocks_with_layers():
    assert reserved(LAYER, LOSS) == {APART: 60}
    assert reserved(LAYER, LOSS, plan=replace(BASE, expandable_segments=True)) == {APART: 60}


def test_what_is_kept_from_layers_to_the_loss_is_in_use_and_not_idle():
    kept = term("saved", 40, {Moment.FORWARD, Moment.LOSS_BACKWARD})

    assert reserved(kept, LOSS) == {}
    assert reserved(kept, LAYER, LOSS) == {APART: 60}


def test_states_break_up_the_loss_where_layers_left_too_little():
    growing = replace(BASE, expandable_segments=True)
    temporaries = term("temporaries", 50, {Moment.OPTIMIZER_STEP})

    # the second step needs 100 + 60 + 80 in any case, more than the 150 of the step and what it broke up
    gradients = term("gradients", 1, {Moment.EMBEDDING_BACKWARD, Moment.OPTIMIZER_STEP})
    assert reserved(STATES, LAYER, LOSS, temporaries, gradients) == {APART: 60}
    # with gradients on another stream, the step's 150 lie where the 140 were: the 100 of those are asked anew
    assert reserved(STATES, LAYER, LOSS, temporaries) == {APART: 60, BROKEN: 10}
    # 41 of states and gradients went where the loss was: beside the 401 of the step, the next loss needs 41 anew
    large = term("temporaries", 300, {Moment.OPTIMIZER_STEP})
    assert reserved(STATES, LAYER, LOSS, large, gradients) == {APART: 60, BROKEN: 202}
    assert reserved(STATES, LAYER, LOSS, large, gradients, plan=growing) == {APART: 60}


def test_gathered_layers_are_no_blocks_of_the_default_stream():
    gathered = term("gathered", 10, {Moment.FORWARD}, stream="all_gather")

    assert reserved(LAYER, LOSS, gathered)[APART] == 60


def test_a_segment_that_a_hook_knows_to_be_idle_is_counted_once():
    idle = term("idle", 20, {Moment.LOSS_BACKWARD}, level=Level.RESERVED)

    assert reserved(LAYER, LOSS, idle) == {APART: 60}


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

        of_step = SMALL_BLOCKS if plan.adapter is not None else "default"
        assert streams == {"reduce_scatter" if "fsdp" in name else of_step}


class Captured(Steps):
    """Steps whose forward and backward are a CUDA graph from the second on, as torchtitan has them."""

    def __init__(self, *of) -> None:
        super().__init__(*of)
        self.parts: list[tuple[str, int]] = []
        """`step`, `optimizer` and where its events begin."""

    def step(self) -> None:
        self.parts.append(("step", len(self.tape.events)))
        super().step()

    def optimizer_step(self) -> None:
        self.parts.append(("optimizer", len(self.tape.events)))
        super().optimizer_step()
        if len(self.parts) == 2:
            self.gradients = []  # those of the first step are never freed, and the others added to them

    def replayed(self, expandable: bool) -> int:
        """Return the most that is reserved over three steps."""
        events, allocator = self.run(3), CachingAllocator(expandable)
        starts = dict(zip((at for _, at in self.parts), range(len(self.parts)), strict=True))
        names = ["warm-up ", "", "graph ", "", "graph ", ""]
        pool = ""
        for at, (number, num_bytes, stream) in enumerate(events):
            if at in starts:
                pool = names[starts[at]]
                if starts[at] == 2:
                    allocator.release()  # torch.cuda.graph empties the cache before it captures
            if number < 0:
                allocator.sync()
            elif num_bytes:
                assert allocator.allocate(number, num_bytes, pool + stream) is None
            else:
                allocator.free(number, allocator.in_use[number][2])
        return allocator.reserved_peak_bytes


@pytest.mark.parametrize("expandable", [False, True], ids=["native", "expandable"])
@ALL_PLANS
def test_a_captured_step_reserves_no_more_than_its_bound(plan, expandable, plugins):
    plan = replace(plan, expandable_segments=expandable, zero_grad_set_to_none=False)
    estimate = estimate_memory(plan, LLAMA, None, plugins)
    without = replay(step_events(plan, LLAMA, estimate.terms), expandable).reserved_bytes
    captured = Captured(plan, LLAMA, estimate.terms).replayed(expandable)
    num_gradients = sum(each.count for each in held_tensors(plan, LLAMA) if each.trains)
    most = estimate_peaks((*estimate.terms, *graph_at_most(estimate.terms, plan, num_gradients)))

    assert without < captured <= most.reserved_peak_bytes
