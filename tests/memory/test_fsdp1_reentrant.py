"""What FSDP1's hooks keep of reentrant checkpointing, and what a packed base leaves on every rank."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from preflight.checkpointing import is_reentrant
from preflight.families import describe
from preflight.launch import Adapter, BaseQuantization, LaunchPlan
from preflight.memory import Level, MemoryEstimate, Moment
from preflight.pipeline import estimate_memory
from preflight.sharding import held_quantized_bytes, packed_bytes, scale_bytes

SCRIPT = Path(__file__).with_name("fsdp1_reentrant.py")
LAYERS, TOKENS = (5, 7), (512, 1024)
KINDS = {
    "old transformers": (True, True, True, {"transformers": "4.48.1"}),
    "old transformers, fully trained": (True, True, False, {"transformers": "4.48.1"}),
    "old transformers, non-reentrant": (True, False, True, {"transformers": "4.48.1"}),
    "layers that checkpoint themselves": (False, True, True, {"transformers": "4.57.0"}),
}
"""Around FSDP's wrapper, reentrant, adapted, and the versions that do so."""
PLAN = LaunchPlan(
    engine="fsdp1", world_size=2, shard_degree=2, micro_batch_size=1, seq_len=1024,
    load_dtype="bf16", activation_checkpointing="full", attention="sdpa", loss="full_logits",
    sequence_kind="fixed", trainer="transformers", versions={"transformers": "4.48.1"},
    adapter=Adapter(rank=2, targets=("q_proj", "v_proj"), dtype="bf16"),
)  # fmt: skip
PACKED = replace(
    PLAN, mixed_precision="bf16", base_quantization=BaseQuantization("nf4", True, "bf16", "bf16")
)


def estimate_of(plan: LaunchPlan, plugins, num_layers: int = 3) -> MemoryEstimate:
    config = {
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 176,
        "num_hidden_layers": num_layers, "num_attention_heads": 2, "vocab_size": 128,
    }  # fmt: skip
    return estimate_memory(plan, describe(config, "tiny", "test"), None, plugins)


def allocated_at(estimate: MemoryEstimate, moment: Moment) -> int:
    return sum(t.num_bytes for t in estimate.terms_at(moment) if t.level is Level.ALLOCATED)


@pytest.fixture(scope="module")
def per_layer_and_token() -> dict[str, float]:
    """Bytes of the peak of backward that one more layer adds per token, by kind."""
    cases = [
        (name, (around, reentrant, layers, tokens, adapted))
        for name, (around, reentrant, adapted, _) in KINDS.items()
        for layers in LAYERS
        for tokens in TOKENS
    ]
    run = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
            str(SCRIPT), json.dumps([case for _, case in cases]),
        ],
        capture_output=True, text=True, cwd=SCRIPT.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-4000:]
    peaks = {
        (name, case[2], case[3]): peak
        for (name, case), peak in zip(cases, json.loads(run.stdout.splitlines()[-1]), strict=True)
    }

    def slope(name: str) -> float:
        low, high = (
            peaks[name, layers, TOKENS[1]] - peaks[name, layers, TOKENS[0]] for layers in LAYERS
        )
        return (high - low) / (LAYERS[1] - LAYERS[0]) / (TOKENS[1] - TOKENS[0])

    return {name: slope(name) for name in KINDS}


@pytest.mark.launch
@pytest.mark.parametrize("name", KINDS)
def test_a_frozen_layer_keeps_its_input_and_gradient_through_reentrant_backward(
    name, per_layer_and_token, plugins
):
    _, reentrant, adapted, versions = KINDS[name]
    plan = replace(PLAN, checkpointing_reentrant=reentrant, versions=versions)
    if not adapted:
        plan = replace(plan, adapter=None)
    backward = (Moment.LAST_LAYER_BACKWARD, Moment.FIRST_LAYER_BACKWARD)

    def predicted(layers: int, tokens: int) -> int:
        estimate = estimate_of(replace(plan, seq_len=tokens), plugins, layers)
        return max(allocated_at(estimate, moment) for moment in backward)

    low, high = (predicted(n, TOKENS[1]) - predicted(n, TOKENS[0]) for n in LAYERS)
    ours = (high - low) / (LAYERS[1] - LAYERS[0]) / (TOKENS[1] - TOKENS[0])

    assert per_layer_and_token[name] == pytest.approx(ours, rel=0.01)


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


def test_every_rank_holds_all_scales_of_a_packed_base():
    """FSDP shards parameters; a QuantState hangs on one."""
    for degree in (1, 2, 8):
        plan = replace(PACKED, world_size=degree, shard_degree=degree)
        held = held_quantized_bytes(plan, 2**20)

        assert held == packed_bytes(plan, 2**20) // degree + scale_bytes(plan, 2**20)


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
