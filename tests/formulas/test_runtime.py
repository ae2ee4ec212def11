"""What lies outside torch's allocator: the context once, NCCL's buffers per communicator."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from test_laws import LAW, LLAMA, plans

from preflight.judge import estimate_memory
from preflight.launch import LaunchPlan
from preflight.memory import Level
from preflight.units import MIB

ONE = LaunchPlan(engine="single", micro_batch_size=1, seq_len=64)
TWO = replace(ONE, engine="fsdp2", world_size=2, shard_degree=2)
EIGHT = replace(ONE, engine="fsdp2", world_size=8, shard_degree=8)


def outside(plan: LaunchPlan, plugins) -> dict[str, int]:
    terms = estimate_memory(plan, LLAMA, None, plugins).terms
    return {t.name: t.num_bytes for t in terms if t.level is Level.DEVICE}


@pytest.mark.parametrize(
    ("plan", "nccl_mib"),
    [
        (ONE, None),
        (TWO, 544),
        (EIGHT, 688),
        (replace(EIGHT, shard_degree=4, replicate_degree=2), 2 * 688),
        (replace(EIGHT, shard_degree=4, tensor_parallel_degree=2), 2 * 688),
    ],
    ids=["one rank", "two ranks", "eight", "replicas of shards", "tensor parallel"],
)
def test_every_communicator_has_buffers_of_its_own(plan, nccl_mib, plugins):
    """NVIDIA/nccl#964: 544 MB for a group of two A100, 688 MB for a larger one."""
    found = outside(plan, plugins)

    assert found.get("NCCL buffers") == (None if nccl_mib is None else nccl_mib * MIB)


def test_the_context_lies_between_what_was_measured_with_lazy_loading(plugins):
    """pytorch/pytorch#107667 and reports of A100: 300 to 600 MB, whatever is launched."""
    contexts = {outside(plan, plugins)["CUDA context"] for plan in (ONE, TWO, EIGHT)}

    assert len(contexts) == 1
    assert 300 * 10**6 <= contexts.pop() <= 600 * 10**6


@LAW
@given(plan=plans())
def test_expandable_segments_never_raise_what_is_reserved(plugins, plan):
    growing = replace(plan, expandable_segments=True)
    native, expandable = (
        estimate_memory(p, LLAMA, None, plugins).reserved_peak_bytes for p in (plan, growing)
    )

    assert expandable <= native
