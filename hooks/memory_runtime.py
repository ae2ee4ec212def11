"""Device memory outside torch's allocator: the CUDA context and NCCL's buffers; and cuBLAS's workspaces inside it.

What they take is in preflight/formulas/outside_torch.py, with its sources.
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.engines.rollouts import processes_beside
from preflight.formulas.outside_torch import (
    CUDA_CONTEXT_BYTES,
    LEAST_CONTEXT_BYTES,
    LEAST_NCCL_BYTES,
    NCCL_FIRST_BYTES,
    NCCL_GROUP_BYTES,
    PROCESS_BYTES,
)
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import ALWAYS, Level, MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.units import MIB

CUBLAS_WORKSPACE_BYTES = 8_519_680
NUM_CUBLAS_WORKSPACES = 2
"""Handles belong to threads: the main thread's for forward, autograd's for backward. The four full fine-tunings
of Mistral-7B in fms_a100 allocate 17.2 to 17.9 MB beyond their tensors, and two workspaces are 17.0 MB."""

EVERYWHERE = ALWAYS | {Moment.LOAD, Moment.PREPARE}


@hookimpl
def preflight_memory_terms(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price what the driver reports and torch does not."""
    yield MemoryTerm(
        "CUDA context",
        CUDA_CONTEXT_BYTES,
        EVERYWHERE,
        f"{CUDA_CONTEXT_BYTES // MIB} MiB",
        "four sources, 0.5 to 1.7 GiB; at least 300 MiB: pytorch/pytorch#107667",
        Level.DEVICE,
        least_bytes=LEAST_CONTEXT_BYTES,
    )
    others = processes_beside(plan)
    if others:
        yield MemoryTerm(
            "other processes on the card: contexts and NCCL buffers",
            others * PROCESS_BYTES,
            EVERYWHERE,
            f"{others} x ({CUDA_CONTEXT_BYTES // MIB} + {NCCL_FIRST_BYTES // MIB}) MiB",
            "openrlhf/trainer/ray/launcher.py: a Ray actor for every model (0.3.8 to 0.11.2)",
            Level.DEVICE,
            least_bytes=others * LEAST_CONTEXT_BYTES,
        )
    groups = communicators(plan)
    if groups:
        more = f" + {groups - 1} x {NCCL_GROUP_BYTES // MIB} MiB" if groups > 1 else ""
        yield MemoryTerm(
            "NCCL buffers",
            NCCL_FIRST_BYTES + NCCL_GROUP_BYTES * (groups - 1),
            EVERYWHERE,
            f"{NCCL_FIRST_BYTES // MIB} MiB{more}",
            "four sources, 0.5 to 1.5 GiB for the first group; NVIDIA/nccl#964 for each other",
            Level.DEVICE,
            least_bytes=LEAST_NCCL_BYTES * groups,
        )
    # max_memory_allocated counts them too; kept apart, so that live tensors are the model's and compare with a trace
    yield MemoryTerm(
        "cuBLAS workspaces",
        NUM_CUBLAS_WORKSPACES * CUBLAS_WORKSPACE_BYTES,
        ALWAYS,
        f"{NUM_CUBLAS_WORKSPACES} x {CUBLAS_WORKSPACE_BYTES:,}",
        "aten/src/ATen/cuda/CublasHandlePool.cpp (2.13)",
        Level.RESERVED,
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
        1 if plan.pipeline is None else plan.pipeline.degree,
    ):
        groups += degree > 1
    if plan.replicate_degree > 1 and plan.shard_degree > 1:
        groups += 1
    return groups
