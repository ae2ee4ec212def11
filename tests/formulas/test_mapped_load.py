"""A model that a script loads onto every device is there whole before FSDP shards it."""

import pytest

from preflight import LaunchPlan, estimate
from preflight.launch_facts import ScriptFacts
from preflight.memory import Phase
from preflight.setting import Place, Setting

WEIGHTS = 2 * 34_388_917_248


def load_of(engine, mapped):
    said = None if mapped is None else Setting(mapped, Place("script", "train.py", "device_map", 1))
    plan = LaunchPlan(
        model="01-ai/Yi-34B",
        engine=engine,
        world_size=8,
        shard_degree=8,
        micro_batch_size=1,
        seq_len=512,
        load_dtype="bf16",
        mixed_precision="bf16",
        script_facts=ScriptFacts(device_map=said),
    )
    (load,) = (peak for peak in estimate(plan).peaks if peak.phase is Phase.LOAD)
    return load.allocated_bytes


@pytest.mark.parametrize("engine", ["fsdp1", "fsdp2"])
@pytest.mark.parametrize("mapped", ["{'': 3}", "rank", "cuda"])
def test_the_whole_model_is_on_the_device(engine, mapped):
    assert load_of(engine, mapped) >= WEIGHTS


@pytest.mark.parametrize("engine", ["fsdp1", "fsdp2"])
@pytest.mark.parametrize("mapped", [None, "cpu", "{'': 'cpu'}", "meta", "auto"])
def test_a_map_to_elsewhere_adds_nothing(engine, mapped):
    assert load_of(engine, mapped) == load_of(engine, None) < WEIGHTS
