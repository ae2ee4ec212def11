"""What lies outside torch's allocator: the CUDA context and NCCL's buffers, by what others measured.

Both are ranges: the middle is what is predicted, and a refusal counts on the lower end alone. What was measured:

    CUDA context,   V100              300 to 400 MB   torch 1.1     pytorch/pytorch#20532 (2019-05)
    libraries and   any, CUDA < 11.7  over 1000 MB    every kernel is loaded at once
    kernels         any, CUDA >= 11.7 about 300 MB    before the first step: pytorch/pytorch#107667 (2023-08)
    (kernels load   A100              0.51 GiB        in use less reserved, of the error in litgpt's tutorials/oom.md
    as they are     H100              1.21 GiB        the same, PrimeIntellect-ai/prime-rl benchmarks/baselines (2026-01)
    first used)     A100, torch 2.4   0.81 GiB        nvidia-smi less a replayed trace: fms_granite, 5 runs, 0.4 to 1.2
                    A100, torch 2.4   1.66 GiB        the same: fms_a100, 12 runs, 1.3 to 2.4
    NCCL,           2 x A100          1.40 GiB        nvidia-smi less estimate and context: fms_a100 under FSDP1
    the first       2 x A100          1.30 GiB        the same: fms_granite
    group           large cluster     1.49 GiB        NVIDIA/nccl#864; 6 GB with 3 groups or more
                    2 of 4 x A100     0.53 GiB        NVIDIA/nccl#964 (NVLink)
    each other      4 x A100 NVLink   688 MB          the same
                    B300, NCCL 2.28.9 512 MiB         one shared network buffer: NVIDIA/nccl#2363 (2026-08)
    cuBLAS          up to Ampere      8,519,680 B     4096 KiB x 2 + 16 KiB x 8 per handle and stream
                    Hopper and newer  33,554,432 B    aten/src/ATen/cuda/CublasHandlePool.cpp

Cards without NVLink have two channels: 4 MiB and LL128's 4.7 for each, both ways, in a ring and a tree, are 70 MiB,
counted and not measured. The middle of the context is the median of the four rows from A100 and H100,
one vote a source; without any one of them it lies between 0.81 and 1.21 GiB. A hook sees the plan and not the device, so one value of each serves every card; a site
corrects them with its own record. The workspace is the smaller one: two of the larger are 64 MiB, under 0.1
percent of a Hopper card.
"""

from __future__ import annotations

from preflight.units import MIB

CONTEXT_SOURCES_GIB = {"litgpt": 0.51, "fms_granite": 0.81, "prime-rl": 1.21, "fms_a100": 1.66}
"""What each source says by its own median: the rows of A100 and H100 above."""
CUDA_CONTEXT_BYTES = 1034 * MIB
"""The median of these: fitted, 2026-11 (a test holds it; docs/accuracy.md leaves each source out in turn)."""
LEAST_CONTEXT_BYTES = 300 * MIB
NCCL_SOURCES_GIB = {"nccl#964": 0.53, "fms_granite": 1.30, "fms_a100": 1.40, "nccl#864": 1.49}
"""What each source says of the first group; of both fms ones, what the estimate lacks of the allocator is in it."""
NCCL_FIRST_BYTES = 1382 * MIB
"""The median of these: fitted, as the context is."""
NCCL_GROUP_BYTES = 688 * MIB
PROCESS_BYTES = CUDA_CONTEXT_BYTES + NCCL_FIRST_BYTES
"""What another process of a job has on a card beside its tensors."""
LEAST_NCCL_BYTES = 64 * MIB
"""Of the two channels between cards without NVLink: their buffers are 8.7 MiB each way, ring and tree."""
