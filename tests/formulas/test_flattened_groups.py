"""Flattening of a parameter group by ZeRO-1 and 2 takes a second copy of it only where the device has room: it refuses nothing."""

import inspect

import pytest

from preflight import LaunchPlan, estimate
from preflight.memory import Phase


@pytest.mark.parametrize(("engine", "ranks"), [("zero1", 8), ("zero2", 1), ("zero2", 8)])
def test_loading_takes_the_model_once(engine, ranks):
    plan = LaunchPlan(
        model="01-ai/Yi-34B",
        engine=engine,
        world_size=ranks,
        shard_degree=ranks,
        micro_batch_size=1,
        seq_len=512,
        activation_checkpointing="full",
        load_dtype="bf16",
        mixed_precision="bf16",
        offload_optimizer="cpu",
        device="h100-sxm-80",
    )
    weights = 2 * 34_388_917_248

    (load,) = (peak for peak in estimate(plan).peaks if peak.phase is Phase.LOAD)

    assert weights <= load.allocated_bytes < 1.01 * weights


@pytest.mark.libraries
def test_deepspeed_asks_how_much_is_free():
    from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer

    made = inspect.getsource(DeepSpeedZeroOptimizer.__init__)

    assert "available_memory >= flat_buffer_bytes" in made
