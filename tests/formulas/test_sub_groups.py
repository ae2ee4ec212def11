"""ZeRO-3's sub groups are those that DeepSpeed's own function makes, whatever size a file asks for."""

from functools import partial
from types import SimpleNamespace

import pytest

from preflight import LaunchPlan, estimate
from preflight.formulas.engines.deepspeed_rules import sub_groups
from preflight.formulas.sharding import held_tensors
from preflight.plan_parts import DeepSpeedSettings
from preflight.plugins import load_plugins
from preflight.units import ceil_div

RANKS = 4


def plan_of(size, **more):
    return LaunchPlan(
        model="mistralai/Mistral-7B-v0.3",
        engine="zero3",
        world_size=RANKS,
        shard_degree=RANKS,
        micro_batch_size=1,
        seq_len=512,
        mixed_precision="bf16",
        deepspeed=DeepSpeedSettings(sub_group_size=size),
        **more,
    )


def groups_of_deepspeed(plan, model):
    """Return the elements of each group that DeepSpeed makes of the parts, layer by layer."""
    stage3 = pytest.importorskip("deepspeed.runtime.zero.stage3")
    held = [each for each in held_tensors(plan, model) if each.trains]
    layers = max(each.count for each in held)
    parts = [each for index in range(layers) for each in held if index < each.count]
    params = [
        SimpleNamespace(partition_numel=partial(ceil_div, each.tensor.num_params, RANKS))
        for each in parts
    ]
    engine = SimpleNamespace(sub_group_size=plan.deepspeed.sub_group_size)
    made = stage3.DeepSpeedZeroOptimizer_Stage3._create_fp16_sub_groups(engine, params)
    return [sum(param.partition_numel() for param in group) for group in made]


@pytest.mark.parametrize("size", [0, 1, 1_000, 10**7, 10**8, 10**9, 10**12])
def test_groups_are_as_large_as_deepspeed_makes_them(size):
    plan = plan_of(size)
    model = load_plugins().first("preflight_describe_model", plan=plan)
    made, ours = groups_of_deepspeed(plan, model), sub_groups(plan, model)

    largest = max(ceil_div(each.tensor.num_params, RANKS) for each in held_tensors(plan, model))
    assert sum(size * count for size, count in ours.items()) == sum(made)
    assert abs(max(ours) - max(made)) < largest
    if size in (0, 1, 1_000, 10**12):
        assert sorted(ours.elements()) == sorted(made)


@pytest.mark.parametrize("size", [0, 1, 7])
def test_a_size_of_nothing_is_a_group_of_one_parameter_and_no_list_of_blocks(size):
    """A list with an entry for every element took all the memory of the machine that asked."""
    asked = estimate(plan_of(size, offload_optimizer="cpu", offload_params="cpu"))
    usual = estimate(plan_of(10**9, offload_optimizer="cpu", offload_params="cpu"))

    assert 0.5 < asked.host_peak_bytes_per_node / usual.host_peak_bytes_per_node < 2
