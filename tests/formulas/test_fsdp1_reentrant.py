"""What FSDP1's hooks keep of reentrant checkpointing, and what a packed base leaves on every rank."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from caching_allocator import CachingAllocator

from preflight.formulas.layers.checkpointing import is_reentrant
from preflight.formulas.sharding import (
    held_quantized_bytes,
    held_tensors,
    packed_bytes,
    scale_bytes,
)
from preflight.judge import estimate_memory
from preflight.launch import Adapter, BaseQuantization, LaunchPlan
from preflight.launch_facts import ScriptFacts
from preflight.memory import Level, MemoryEstimate, Moment
from preflight.models import describe
from preflight.setting import Place

SCRIPT = Path(__file__).with_name("fsdp1_reentrant.py")
LAYERS, TOKENS = (5, 7), (512, 1024)
KINDS = {
    "old transformers": (True, True, True, {"transformers": "4.48.1"}),
    "old transformers, fully trained": (True, True, False, {"transformers": "4.48.1"}),
    "old transformers, non-reentrant": (True, False, True, {"transformers": "4.48.1"}),
    "layers that checkpoint themselves": (False, True, True, {"transformers": "4.57.0"}),
    "torch's module, in the wrapper": ("wrapped", True, True, {"transformers": "4.48.1"}),
}
"""Around FSDP's wrapper, reentrant, adapted, and the versions that do so."""
WRAPPED = ScriptFacts(
    wrapped_checkpoints=Place("script", "train.py", "apply_activation_checkpointing")
)
GATHERS = {
    "prefetching": (False, False, False, "BACKWARD_PRE"),
    "prefetching after": (False, False, False, "BACKWARD_POST"),
    "no prefetch": (False, False, False, None),
    "old transformers": (True, True, False, "BACKWARD_PRE"),
    "adapted": (False, False, True, "BACKWARD_PRE"),
    "adapted, no prefetch": (False, False, True, None),
    "adapted, old transformers": (True, True, True, "BACKWARD_PRE"),
}
"""Around FSDP's wrapper, reentrant, adapted, prefetch."""
PLAN = LaunchPlan(
    engine="fsdp1", world_size=2, shard_degree=2, micro_batch_size=1, seq_len=1024,
    load_dtype="bf16", activation_checkpointing="full", attention="sdpa", loss="full_logits",
    sequence_kind="fixed", trainer="transformers", versions={"transformers": "4.48.1"},
    adapter=Adapter(rank=2, targets=("q_proj", "v_proj"), dtype="bf16"),
)  # fmt: skip
PACKED = replace(
    PLAN, mixed_precision="bf16", base_quantization=BaseQuantization("nf4", True, "bf16", "bf16")
)


TINY = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 176,
    "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 128,
}  # fmt: skip


def estimate_of(plan: LaunchPlan, plugins, num_layers: int = 3) -> MemoryEstimate:
    config = {
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 176,
        "num_hidden_layers": num_layers, "num_attention_heads": 2, "vocab_size": 128,
    }  # fmt: skip
    return estimate_memory(plan, describe(config, "tiny", "test"), None, plugins)


def allocated_at(estimate: MemoryEstimate, moment: Moment) -> int:
    return sum(t.num_bytes for t in estimate.terms_at(moment) if t.level is Level.ALLOCATED)


@pytest.fixture(scope="module")
def measured(ranks) -> tuple[dict[str, float], dict[str, list[dict[str, int]]]]:
    """Bytes of the peak of backward that one more layer adds per token, by kind; gathered layers, step by step."""
    cases = [
        (name, (around, reentrant, layers, tokens, adapted))
        for name, (around, reentrant, adapted, _) in KINDS.items()
        for layers in LAYERS
        for tokens in TOKENS
    ]
    asked = [json.dumps([case for _, case in cases]), json.dumps([*GATHERS.values()])]
    printed, gathers = json.loads(ranks.printed(SCRIPT, *asked, world=2).splitlines()[-1])
    peaks = {
        (name, case[2], case[3]): peak for (name, case), peak in zip(cases, printed, strict=True)
    }

    def slope(name: str) -> float:
        low, high = (
            peaks[name, layers, TOKENS[1]] - peaks[name, layers, TOKENS[0]] for layers in LAYERS
        )
        return (high - low) / (LAYERS[1] - LAYERS[0]) / (TOKENS[1] - TOKENS[0])

    return {name: slope(name) for name in KINDS}, dict(zip(GATHERS, gathers, strict=True))


@pytest.mark.launch
@pytest.mark.parametrize("name", KINDS)
def test_a_frozen_layer_keeps_its_input_and_gradient_through_reentrant_backward(
    name, measured, plugins
):
    around, reentrant, adapted, versions = KINDS[name]
    plan = replace(PLAN, checkpointing_reentrant=reentrant, versions=versions)
    if around == "wrapped":
        plan = replace(plan, script_facts=WRAPPED)
    if not adapted:
        plan = replace(plan, adapter=None)
    backward = (Moment.LAST_LAYER_BACKWARD, Moment.FIRST_LAYER_BACKWARD)

    def predicted(layers: int, tokens: int) -> int:
        estimate = estimate_of(replace(plan, seq_len=tokens), plugins, layers)
        return max(allocated_at(estimate, moment) for moment in backward)

    low, high = (predicted(n, TOKENS[1]) - predicted(n, TOKENS[0]) for n in LAYERS)
    ours = (high - low) / (LAYERS[1] - LAYERS[0]) / (TOKENS[1] - TOKENS[0])

    assert measured[0][name] == pytest.approx(ours, rel=0.01)


@pytest.mark.launch
@pytest.mark.parametrize("name", GATHERS)
def test_the_pool_of_gathers_holds_the_layers_that_the_rate_limiter_lets_through(
    name, measured, plugins
):
    around, reentrant, adapted, prefetch = GATHERS[name]
    plan = replace(
        PLAN,
        checkpointing_reentrant=reentrant,
        backward_prefetch=(prefetch or "none").lower(),
        versions={"transformers": "4.48.1" if around else "5.24.0"},
        adapter=PLAN.adapter if adapted else None,
    )
    estimate = estimate_of(plan, plugins, 6)
    layer = next(t for t in estimate.terms if t.name == "gathered layer").num_bytes
    root = next(t for t in estimate.terms if t.name.startswith("gathered root")).num_bytes
    pool = max(
        sum(t.num_bytes for t in estimate.terms_at(moment) if t.stream == "all_gather")
        for moment in Moment
    )

    most = max(count for step in measured[1][name] for count in step.values())
    assert round((pool - root) / layer, 1) == most


@pytest.mark.parametrize("width", [176, 192, 224])
def test_held_inputs_leave_rests_of_the_blocks_that_activations_left(width, plugins):
    """Inputs of 64 wide, each lent what is left of a freed activation of the MLP, as the replay lends it."""
    tokens, num_layers = 2**18, 12
    config = {
        "model_type": "llama", "hidden_size": 64, "intermediate_size": width,
        "num_hidden_layers": num_layers, "num_attention_heads": 2, "vocab_size": 128,
    }  # fmt: skip
    plan = replace(PLAN, seq_len=tokens)
    name = "rests of blocks that held inputs and gradients lie in"
    found = estimate_memory(plan, describe(config, "tiny", "test"), None, plugins).terms
    rests = sum(t.num_bytes for t in found if t.name == name)

    wide, held = 2 * tokens * width, 2 * tokens * 64
    allocator = CachingAllocator()
    num_held = 2 * num_layers - 1
    for number in range(num_held):
        allocator.allocate(num_held, wide, "default")
        allocator.free(num_held, "default")
        allocator.allocate(number, held, "default")
    allocator.allocate(num_held, wide, "default")  # the next layer's, whole

    in_blocks = allocator.reserved_bytes - wide
    assert rests == in_blocks - (num_held + rooms_left(num_held, wide, held)) * held


def rooms_left(num_held: int, wide: int, held: int) -> int:
    """Return how many more held tensors the last block has room for."""
    return -num_held % (wide // held)


@pytest.mark.parametrize(
    ("trainer", "versions", "answer"),
    [
        ("transformers", {"transformers": "4.48.1"}, True),
        ("transformers", {"transformers": "5.24.0"}, False),
        ("transformers", {}, False),
        ("trl", {"transformers": "4.48.1", "trl": "0.13.0"}, True),
        ("trl", {"transformers": "4.57.0", "trl": "0.27.0"}, False),
        ("torchtitan", {"transformers": "4.48.1"}, False),
    ],
)
def test_the_kind_of_checkpointing_follows_trainer_and_version(trainer, versions, answer):
    plan = replace(PLAN, trainer=trainer, versions=versions)

    assert is_reentrant(plan) is answer
    assert is_reentrant(replace(plan, checkpointing_reentrant=not answer)) is not answer
    assert is_reentrant(replace(plan, activation_checkpointing="none")) is False


@pytest.mark.parametrize("trainer", [None, "plain_loop", "transformers"])
def test_a_loop_that_turns_it_on_by_the_models_method_has_that_methods_kind(trainer):
    """`gradient_checkpointing_enable()` says use_reentrant=True before transformers 5 (modeling_utils.py:2539, 4.48.1)."""
    old, new = (
        replace(PLAN, trainer=trainer, versions={"transformers": release})
        for release in ("4.48.1", "5.24.0")
    )

    assert (is_reentrant(old), is_reentrant(new)) == (True, False)


def test_every_rank_holds_all_scales_of_a_packed_base():
    """FSDP shards parameters; a QuantState hangs on one."""
    for degree in (1, 2, 8):
        plan = replace(PACKED, world_size=degree, shard_degree=degree)
        (weight, *_) = [
            h for h in held_tensors(plan, describe(TINY, "tiny", "test")) if h.quantized
        ]
        num = weight.tensor.num_params

        assert held_quantized_bytes(plan, weight) == packed_bytes(
            plan, num
        ) // degree + scale_bytes(plan, num)


def test_old_transformers_packs_one_tensor_at_a_time(plugins):
    old = estimate_of(PACKED, plugins)
    new = estimate_of(replace(PACKED, versions={"transformers": "5.24.0"}), plugins)
    whole = estimate_of(replace(PACKED, cpu_ram_efficient_loading=False), plugins)

    assert allocated_at(old, Moment.LOAD) < allocated_at(new, Moment.LOAD)
    assert allocated_at(whole, Moment.LOAD) == allocated_at(new, Moment.LOAD)


def test_nothing_is_gathered_early_before_a_layer_is_recomputed(plugins):
    """Reentrant layers ran without a graph: their units have no pre-backward hook to prefetch for."""
    plan = replace(PLAN, adapter=None)
    reentrant, other = (
        estimate_of(replace(plan, checkpointing_reentrant=kind), plugins) for kind in (True, False)
    )

    prefetched = [
        {t.name for t in e.terms if t.name == "gathered layer, prefetched"}
        for e in (reentrant, other)
    ]
    assert prefetched == [set(), {"gathered layer, prefetched"}]
