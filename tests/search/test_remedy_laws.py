"""Laws that every remedy obeys on every plan that it is offered for."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from preflight.judge import Judged, judge_plan
from preflight.launch import Adapter, DeepSpeedSettings, LaunchPlan
from preflight.plan_choices import CHEAPEST_FIRST
from preflight.plugin_manager import PluginManager
from preflight.plugins import load_plugins
from preflight.policy import Policy
from preflight.remedy import Remedy

START = LaunchPlan(
    model="meta-llama/Llama-3.1-8B",
    engine="fsdp2",
    world_size=8,
    shard_degree=8,
    reshard_after_forward=False,
    wrap_policy="none",
    load_dtype="fp32",
    mixed_precision="bf16",
    micro_batch_size=4,
    eval_micro_batch_size=8,
    seq_len=2048,
    trainer="transformers",
    attention="eager",
    optimizer="adamw_torch",
    versions={"torch": "2.13.0", "accelerate": "1.15.0", "transformers": "5.24.0"},
    device="h100-sxm-80",
)
WHOLE: dict[str, Any] = {"shard_degree": 1, "reshard_after_forward": None, "wrap_policy": None}
ZERO: dict[str, Any] = {**WHOLE, "shard_degree": 8, "deepspeed": DeepSpeedSettings()}
PLANS: dict[str, dict[str, Any]] = {
    "fsdp2": {},
    "fsdp2, accumulating, checkpointed": {
        "gradient_accumulation_steps": 4,
        "activation_checkpointing": "full",
    },
    "fsdp2, sdpa": {"attention": "sdpa", "wrap_policy": "transformer"},
    "fsdp1, wrapped by size": {
        "engine": "fsdp1",
        "wrap_policy": "size",
        "wrap_min_num_params": 100_000_000,
    },
    "fsdp1, copies": {
        "engine": "fsdp1",
        "shard_degree": 4,
        "replicate_degree": 2,
        "wrap_policy": "transformer",
    },
    "ddp": {**WHOLE, "engine": "ddp"},
    "ddp, lora": {**WHOLE, "engine": "ddp", "adapter": Adapter(targets="all-linear")},
    "ddp, small": {**WHOLE, "engine": "ddp", "model": "meta-llama/Llama-3.2-1B"},
    "one gpu": {**WHOLE, "engine": "single", "world_size": 1},
    "zero0": {**ZERO, "engine": "zero0", "shard_degree": 1},
    "zero1": {**ZERO, "engine": "zero1"},
    "zero2": {**ZERO, "engine": "zero2", "gradient_accumulation_steps": 2},
    "zero3": {**ZERO, "engine": "zero3"},
    "zero3, offloaded, checkpointed": {
        **ZERO,
        "engine": "zero3",
        "offload_optimizer": "cpu",
        "optimizer": "deepspeed_cpu_adam",
        "activation_checkpointing": "full",
    },
    "zero3, small": {**ZERO, "engine": "zero3", "model": "meta-llama/Llama-3.2-1B"},
    "zero2, small": {**ZERO, "engine": "zero2", "model": "meta-llama/Llama-3.2-1B"},
    "trl": {"trainer": "trl", "versions": {**START.versions, "trl": "1.14.0"}},
    "torchtune": {"trainer": "torchtune", "attention": "sdpa", "wrap_policy": "transformer"},
}
FEWEST_SEEN = 20
"""Remedies that these plans are offered together: a law that is asked of few says little."""


@cache
def judged(name: str) -> Judged:
    return judge_plan(replace(START, **PLANS[name]), load_plugins(), Policy())


def offered(plan: LaunchPlan, model: Any, plugins: PluginManager) -> list[Remedy]:
    return [item for _, item in plugins.collect("preflight_remedies", plan=plan, model=model)]


@pytest.mark.parametrize("name", PLANS)
def test_what_keeps_training_never_raises_the_peak_unless_it_says_so(name, plugins):
    start = judged(name)
    before: dict[str, int] = {}
    for remedy in offered(start.plan, start.model, plugins):
        after = judge_plan(
            start.plan.with_edits(remedy.edits), plugins, Policy(), start.model, start.device
        )
        peak = after.estimate.allocated_peak_bytes
        least = before.get(remedy.id, start.estimate.allocated_peak_bytes)
        before[remedy.id] = peak
        if remedy.keeps_training and not remedy.may_raise_peak:
            assert peak <= least, remedy.id


@pytest.mark.parametrize("name", PLANS)
def test_the_global_batch_and_what_is_trained_stay(name, plugins):
    start = judged(name)
    for remedy in offered(start.plan, start.model, plugins):
        after = start.plan.with_edits(remedy.edits)

        assert after.global_batch_size == start.plan.global_batch_size, remedy.id
        if remedy.keeps_training:
            assert after.adapter == start.plan.adapter
            assert after.seq_len == start.plan.seq_len
            assert after.world_size == start.plan.world_size


@pytest.mark.parametrize("name", PLANS)
def test_a_remedy_changes_the_plan_once(name, plugins):
    """Its last dose leaves nothing of it to do."""
    start = judged(name)
    last = {r.id: r for r in offered(start.plan, start.model, plugins)}
    for remedy in last.values():
        after = start.plan.with_edits(remedy.edits)

        assert after != start.plan, remedy.id
        assert after.with_edits(remedy.edits) == after
        assert remedy.id not in {r.id for r in offered(after, start.model, plugins)}, remedy.id


@pytest.mark.parametrize("name", PLANS)
def test_a_remedy_moves_a_field_the_way_its_readings_are_ordered(name, plugins):
    """Levers and open values know one order: a remedy that edits one field makes it cheaper."""
    start = judged(name)
    for remedy in offered(start.plan, start.model, plugins):
        if len(remedy.edits) > 1 or remedy.may_raise_peak:
            continue
        for field, order in CHEAPEST_FIRST.items():
            old, new = getattr(start.plan, field), remedy.edits.get(field)
            if field in remedy.edits and old in order and new in order and old != new:
                assert order.index(new) < order.index(old), remedy.id


def test_the_plans_bring_most_remedies_out(plugins):
    seen = {
        remedy.id
        for name in PLANS
        for remedy in offered(judged(name).plan, judged(name).model, plugins)
    }

    assert len(seen) >= FEWEST_SEEN
