"""The search gives the same answer as trying every plan, and the same one every time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from every_plan import every_plan
from unfit_launches import CASES, plan_of

from preflight.judge import Judged, judge_plan
from preflight.launch import LaunchPlan
from preflight.plugin_manager import PluginManager
from preflight.policy import Policy
from preflight.rewriting import write_checked
from preflight.search.best_plans import best_plans, key_of, num_not_same
from preflight.search.lattice import Lattice
from preflight.search.trying import Search
from preflight.verdict import Answer

START = LaunchPlan(
    model="meta-llama/Llama-3.1-8B",
    engine="fsdp2",
    world_size=8,
    shard_degree=8,
    reshard_after_forward=False,
    load_dtype="bf16",
    mixed_precision="bf16",
    micro_batch_size=8,
    seq_len=4096,
    trainer="trl",
    attention="sdpa",
    loss="full_logits",
    optimizer="adamw_torch_fused",
    device="h100-sxm-80",
)

LAUNCHES = {
    "8B fsdp2": {},
    "8B fsdp2, one node of small cards": {"device": "a6000-48"},
    "8B fsdp1": {"engine": "fsdp1", "seq_len": 8192},
    "8B zero3": {"engine": "zero3", "seq_len": 16384, "reshard_after_forward": None},
    "8B zero2": {"engine": "zero2", "micro_batch_size": 16, "reshard_after_forward": None},
    "1B ddp": {
        "model": "meta-llama/Llama-3.2-1B",
        "engine": "ddp",
        "shard_degree": 1,
        "device": "rtx4090-24",
        "reshard_after_forward": None,
    },
    "70B on 64": {
        "model": "meta-llama/Llama-3.1-70B",
        "world_size": 64,
        "num_nodes": 8,
        "shard_degree": 64,
    },
    "30B experts": {"model": "Qwen/Qwen3-30B-A3B", "world_size": 16, "shard_degree": 16},
}


def lattice_of(plan: LaunchPlan, plugins: PluginManager) -> Lattice:
    start = judge_plan(plan, plugins, Policy())
    search = Search(start, plugins, Policy(), write_checked)
    return search.lattice(start, lambda remedy: remedy.keeps_training)


def fits(judged: Judged) -> bool:
    return judged.verdict.answer is Answer.FITS


@pytest.mark.parametrize("edits", LAUNCHES.values(), ids=LAUNCHES)
def test_the_answer_is_the_best_of_all_plans(edits, plugins):
    plan = replace(START, **edits)
    found = best_plans(lattice_of(plan, plugins), fits)
    whole = lattice_of(plan, plugins)
    keys = [
        key_of(doses, reached)
        for doses, reached in every_plan(whole)
        if fits(whole.estimate(reached))
    ]

    assert [solution.key for solution in found] == sorted(keys)[:1]


def test_of_plans_as_fast_and_as_short_one_that_is_more_bit_identical_wins(plugins):
    whole = lattice_of(START, plugins)
    best = best_plans(whole, fits)[0]
    rivals = [
        reached
        for doses, reached in every_plan(whole)
        if key_of(doses, reached)[:2] == best.key[:2] and fits(whole.estimate(reached))
    ]
    fewest = min(num_not_same(reached.path) for reached in rivals)

    assert num_not_same(best.reached.path) == fewest
    assert any(num_not_same(reached.path) > fewest for reached in rivals)


def test_next_best_answers_make_other_changes_and_are_no_better(plugins):
    found = best_plans(lattice_of(START, plugins), fits, most=3)
    keys = [solution.key for solution in found]

    assert len(found) > 1
    assert keys == sorted(keys)
    for number, solution in enumerate(found):
        for better in found[:number]:
            assert not set(better.ids) < set(solution.ids) or solution.key[-1] != better.key[-1]


def test_a_launch_that_nothing_helps_is_known_from_its_smallest_plan(plugins):
    plan = replace(START, model="meta-llama/Llama-3.1-405B")
    lattice = lattice_of(plan, plugins)

    assert best_plans(lattice, fits) == []
    assert lattice.num_estimates <= len(lattice.levers) + 3


def test_the_same_launch_gets_the_same_answer(plugins):
    answers = [
        [s.key for s in best_plans(lattice_of(START, plugins), fits, most=3)] for _ in range(3)
    ]

    assert answers[0] == answers[1] == answers[2]


SMALL_LATTICE = (
    "activation_checkpointing",
    "reshard_after_forward",
    "micro_batch",
    "chunked_loss",
    "sync_each_batch",
)
"""Levers whose every plan is tried on each of the launches that do not fit."""


@pytest.mark.parametrize("name", CASES)
def test_the_answer_for_a_launch_that_does_not_fit_is_the_best_of_all_plans(name, plugins):
    start = judge_plan(plan_of(name, plugins), plugins, Policy())
    search = Search(start, plugins, Policy(), write_checked)

    def lattice() -> Lattice:
        return search.lattice(start, lambda r: r.keeps_training and r.id in SMALL_LATTICE)

    whole = lattice()
    keys = [
        key_of(doses, reached)
        for doses, reached in every_plan(whole)
        if fits(whole.estimate(reached))
    ]

    assert [solution.key for solution in best_plans(lattice(), fits)] == sorted(keys)[:1]
