"""What lies outside torch's allocator: the context once, NCCL's buffers per communicator."""

from __future__ import annotations

from dataclasses import replace
from statistics import median

import pytest
from hypothesis import given
from test_laws import LAW, LLAMA, plans

from preflight.device import DeviceSpec
from preflight.formulas.outside_torch import CONTEXT_SOURCES_GIB, NCCL_SOURCES_GIB
from preflight.judge import estimate_memory
from preflight.launch import LaunchPlan
from preflight.memory import Level
from preflight.units import GIB, MIB
from preflight.verdict import Answer, judge

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
        (TWO, 1382),
        (EIGHT, 1382),
        (replace(EIGHT, shard_degree=4, replicate_degree=2), 1382 + 688),
        (replace(EIGHT, shard_degree=4, tensor_parallel_degree=2), 1382 + 688),
    ],
    ids=["one rank", "two ranks", "eight", "replicas of shards", "tensor parallel"],
)
def test_every_communicator_has_buffers_of_its_own(plan, nccl_mib, plugins):
    """The first's are the median of four sources; NVIDIA/nccl#964: 688 MB for each other."""
    found = outside(plan, plugins)

    assert found.get("NCCL buffers") == (None if nccl_mib is None else nccl_mib * MIB)
    assert median(NCCL_SOURCES_GIB.values()) * GIB // MIB == 1382


@pytest.mark.parametrize("left_out", range(4))
def test_the_context_is_what_three_of_its_four_sources_say_within_a_quarter(left_out, plugins):
    """The sources are those of preflight/formulas/outside_torch.py, each with one vote."""
    sources = list(CONTEXT_SOURCES_GIB.values())
    rest = sources[:left_out] + sources[left_out + 1 :]
    contexts = {outside(plan, plugins)["CUDA context"] for plan in (ONE, TWO, EIGHT)}

    assert len(contexts) == 1
    context = contexts.pop() / GIB
    assert context == pytest.approx(median(sources), abs=0.001)
    assert context == pytest.approx(median(rest), rel=0.25)


@pytest.mark.parametrize("plan", [ONE, TWO, EIGHT], ids=["one rank", "two ranks", "eight"])
def test_a_refusal_counts_on_the_lower_end_of_what_lies_outside_torch(plan, plugins):
    estimate = estimate_memory(plan, LLAMA, None, plugins)
    peak = estimate.peak
    ranges = [t for t in estimate.terms if t.level is Level.DEVICE]
    needed = peak.allocated_bytes + sum(t.least_bytes or 0 for t in ranges)

    assert all(t.least_bytes and t.least_bytes < t.num_bytes for t in ranges)
    assert peak.needed_bytes == needed < peak.device_bytes
    for capacity, is_refused in ((needed - 1, True), (needed, False)):
        verdict = judge(estimate, DeviceSpec("card", capacity))

        assert (verdict.answer is Answer.DOES_NOT_FIT) is is_refused


@LAW
@given(plan=plans())
def test_expandable_segments_never_raise_what_is_reserved(plugins, plan):
    growing = replace(plan, expandable_segments=True)
    native, expandable = (
        estimate_memory(p, LLAMA, None, plugins).reserved_peak_bytes for p in (plan, growing)
    )

    assert expandable <= native
