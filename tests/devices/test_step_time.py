"""Step times: what must hold for any launch, and what others measured of pairs of runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_lattice import START

from preflight.devices.step_time import StepTime, estimate_step_time
from preflight.judge import judge_plan
from preflight.launch import LaunchPlan
from preflight.plugins import load_plugins
from preflight.policy import Policy

LARGE = replace(START, reshard_after_forward=True, micro_batch_size=2, seq_len=8192)


@pytest.fixture(scope="module")
def time_of():
    plugins = load_plugins()

    def time_of(plan: LaunchPlan, **edits: object) -> StepTime:
        judged = judge_plan(replace(plan, **edits), plugins, Policy())
        assert judged.model is not None
        return estimate_step_time(judged.plan, judged.model, judged.device)

    return time_of


def test_recomputing_every_layer_takes_up_to_a_third_more(time_of):
    factor = time_of(LARGE, activation_checkpointing="full").factor_of(time_of(LARGE))

    assert 1.2 < factor < 4 / 3


@pytest.mark.parametrize("kind", ["selective_op", "selective_every_2"])
def test_recomputing_a_part_costs_less_than_all(time_of, kind):
    part = time_of(LARGE, activation_checkpointing=kind).factor_of(time_of(LARGE))
    full = time_of(LARGE, activation_checkpointing="full").factor_of(time_of(LARGE))

    assert 1.0 < part < full


@pytest.mark.parametrize(
    "edits",
    [
        {"offload_params": "cpu", "offload_optimizer": "cpu"},
        {"micro_batch_size": 1, "gradient_accumulation_steps": 2},
        {"attention": "eager"},
        {"optimizer": "adamw_torch"},
        {"load_dtype": "fp32", "mixed_precision": "no"},
        {"device": "a100-sxm-80"},
    ],
    ids=str,
)
def test_what_saves_memory_or_is_slower_never_takes_less_time(time_of, edits):
    assert time_of(LARGE, **edits).factor_of(time_of(LARGE)) >= 1.0


def test_an_adapter_takes_less_than_full_training_and_a_packed_base_more_than_an_adapter(time_of):
    from preflight.launch import BaseQuantization
    from preflight.remedy import SUGGESTED_ADAPTER

    full = time_of(LARGE)
    lora = time_of(LARGE, adapter=SUGGESTED_ADAPTER)
    qlora = time_of(LARGE, adapter=SUGGESTED_ADAPTER, base_quantization=BaseQuantization())

    assert lora.factor_of(full) < 1.0
    assert qlora.factor_of(lora) > 1.0


def test_casting_to_an_fp32_adapter_and_back_takes_time(time_of):
    from preflight.remedy import SUGGESTED_ADAPTER

    alone = replace(LARGE, engine="ddp", shard_degree=1, reshard_after_forward=None)
    half = time_of(alone, adapter=replace(SUGGESTED_ADAPTER, dtype="bf16"))
    full = time_of(alone, adapter=replace(SUGGESTED_ADAPTER, dtype="fp32"))

    assert full.factor_of(half) > 1.0


def test_a_fused_step_on_the_host_takes_less_than_one_of_single_operations(time_of):
    offloaded = replace(LARGE, offload_params="cpu", offload_optimizer="cpu")

    assert time_of(offloaded, optimizer="adamw_torch").factor_of(time_of(offloaded)) > 1.5


def test_time_per_token_does_not_depend_on_how_many_ranks_share_nothing(time_of):
    one = time_of(LARGE, engine="single", world_size=1, shard_degree=1, reshard_after_forward=None)
    eight = time_of(LARGE, engine="ddp", shard_degree=1, reshard_after_forward=None)

    assert eight.factor_of(one) == pytest.approx(1 / 8, rel=0.05)


def test_nothing_is_said_of_a_launch_without_a_length(time_of):
    assert time_of(LARGE, seq_len=None).factor_of(time_of(LARGE)) == 1.0


def test_communication_over_a_network_that_is_slower_than_the_layers_shows(time_of):
    slow = replace(LARGE, device="l4-24", micro_batch_size=1, seq_len=512)
    near = time_of(slow)
    far = time_of(slow, num_nodes=2, world_size=16, shard_degree=16)

    assert "communication not hidden" in far.parts
    assert far.factor_of(near) > 1 / 2
