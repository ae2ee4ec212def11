"""Device memory outside torch's allocator: the CUDA context and NCCL's buffers; and cuBLAS's workspaces inside it.

What others measured (2026-11: no figure for Hopper or Blackwell with driver and library versions was found):

    CUDA context  V100                    300 to 400 MB   torch 1.1     pytorch/pytorch#20532 (2019-05)
                  Titan V                 1008 MB         torch 1.3     pytorch/pytorch#28394 (2019-10)
                  any, CUDA < 11.7        over 1000 MB    every kernel is loaded at once
                  any, CUDA >= 11.7       about 300 MB    kernels load lazily: pytorch/pytorch#107667 (2023-08)
                  A100                    300 to 600 MB   lazily
    NCCL          4 x A100 NVLink         544 MB          a group of 2 ranks      NVIDIA/nccl#964
                                          688 MB          a group of more
                  large cluster           1.6 GB          first group, 6 GB with 3 or more: NVIDIA/nccl#864
                  B300, NCCL 2.28.9       512 MiB         one shared network buffer: NVIDIA/nccl#2363 (2026-08)
    cuBLAS        up to Ampere            8,519,680 B     4096 KiB x 2 + 16 KiB x 8 per handle and stream
                  Hopper and newer        33,554,432 B    aten/src/ATen/cuda/CublasHandlePool.cpp

A hook sees the plan and not the device, so one value of each serves every card; a site corrects them with its
own record. The workspace is the smaller one: two of the larger are 64 MiB, under 0.1 percent of a Hopper card.
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import ALWAYS, Level, MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.units import MIB

CUDA_CONTEXT_BYTES = 500 * MIB
"""Of the 300 to 600 MB of lazily loaded kernels; middle taken 2026-11."""
NCCL_TWO_RANKS_BYTES = 544 * MIB
NCCL_GROUP_BYTES = 688 * MIB
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
    ):
        groups += degree > 1
    if plan.replicate_degree > 1 and plan.shard_degree > 1:
        groups += 1
    return groups
