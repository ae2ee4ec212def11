"""Device memory outside torch's allocator: the CUDA context and NCCL's buffers; and workspaces inside it."""

from __future__ import annotations

from collections.abc import Iterable

from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import ALWAYS, Level, MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.units import MIB

CUDA_CONTEXT_BYTES = 500 * MIB
"""Context with lazily loaded kernels: 300 MB (pytorch/pytorch#107667, 2023-08) to 600 MB on A100; middle taken 2026-11."""
NCCL_TWO_RANKS_BYTES = 544 * MIB
NCCL_GROUP_BYTES = 688 * MIB
"""Per communicator of 2 and of more ranks, 4 x A100 NVLink (NVIDIA/nccl#964)."""

EVERYWHERE = ALWAYS | {Moment.LOAD, Moment.PREPARE}


@hookimpl
def preflight_memory_terms(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price what the driver reports and torch does not."""
    yield MemoryTerm(
        "CUDA context",
        CUDA_CONTEXT_BYTES,
        EVERYWHERE,
        f"{CUDA_CONTEXT_BYTES // MIB} MiB",
        "pytorch/pytorch#107667; range 300 to 600 MiB",
        Level.DEVICE,
    )
    groups = communicators(plan)
    if groups:
        each = NCCL_TWO_RANKS_BYTES if plan.world_size == 2 else NCCL_GROUP_BYTES
        yield MemoryTerm(
            "NCCL buffers",
            each * groups,
            EVERYWHERE,
            f"{groups} x {each // MIB} MiB",
            "NVIDIA/nccl#964 (A100 NVLink)",
            Level.DEVICE,
        )


def communicators(plan: LaunchPlan) -> int:
    """Return how many NCCL communicators with traffic of their own a rank has."""
    if plan.world_size == 1:
        return 0
    groups = 1
    for degree in (
        plan.tensor_parallel_degree,
        plan.context_parallel_degree,
        plan.sequence_parallel_degree,
        plan.expert_parallel_degree,
    ):
        groups += degree > 1
    if plan.replicate_degree > 1 and plan.shard_degree > 1:
        groups += 1
    return groups
