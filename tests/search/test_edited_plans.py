"""An edited plan is judged as one that was never anything else: nothing that the first left out stays with it."""

from __future__ import annotations

import pytest

from preflight.judge import judge_plan
from preflight.launch import Adapter, LowRank
from preflight.plan_dict import plan_from_dict
from preflight.policy import Policy

PLAIN = {
    "model": "Qwen/Qwen3-8B",
    "engine": "fsdp2",
    "world_size": 2,
    "shard_degree": 2,
    "mixed_precision": "bf16",
    "micro_batch_size": 1,
    "seq_len": 512,
    "trainer": "trl",
    "optimizer": "adamw_torch",
    "device": "h100-sxm-80",
}
LEAVING_OUT = {
    "an optimizer nobody knows": {"optimizer": "sophia_torch"},
    "matrices that Muon gathers": {"optimizer": "muon"},
    "low-rank states that are divided": {"optimizer": "galore_adamw", "low_rank": LowRank(rank=64)},
    "fp8 matrices": {"mixed_precision": "fp8"},
}


@pytest.mark.parametrize("name", LEAVING_OUT)
def test_what_an_edit_takes_away_is_left_out_no_more(plugins, name):
    plain = plan_from_dict(PLAIN)
    left_out = judge_plan(plain.with_edits(LEAVING_OUT[name]), plugins, Policy())
    back = {key: getattr(plain, key) for key in LEAVING_OUT[name]}
    edited = judge_plan(left_out.plan.with_edits(back), plugins, Policy())
    never = judge_plan(plain, plugins, Policy())

    assert left_out.verdict.unpriced and not never.verdict.unpriced
    assert edited.verdict == never.verdict
    assert [notice.message for notice in edited.plan.notices] == [
        notice.message for notice in never.plan.notices
    ]


def test_what_an_edit_does_not_touch_is_left_out_still_and_told_once(plugins):
    plan = plan_from_dict({**PLAIN, "optimizer": "sophia_torch"})
    judged = judge_plan(plan, plugins, Policy())
    adapted = judge_plan(judged.plan.with_edits({"adapter": Adapter()}), plugins, Policy())

    assert adapted.verdict.unpriced == judged.verdict.unpriced == ("the states of sophia_torch",)
    assert [notice.unpriced for notice in adapted.plan.notices].count(
        "the states of sophia_torch"
    ) == 1
