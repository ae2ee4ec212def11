"""Host memory that Slurm gives a job on a node: asked for per node, per GPU or per CPU, or by default.

Source: sbatch(1) and slurm.conf(5) of Slurm 24.11, `--mem`, `DefMemPerNode`; a partition's default is over
the cluster's, and without any the job gets the memory of the whole node.
"""

from __future__ import annotations

from collections.abc import Callable

from preflight.node.limits import MemoryLimit
from preflight.slurm.inventory import Inventory, Node, Partition
from preflight.slurm.options import SubmitOptions
from preflight.units import ceil_div


def memory_on(
    options: SubmitOptions,
    node: Node,
    num_gpus: int,
    inventory: Inventory,
    cluster: Callable[[], Partition],
) -> MemoryLimit | None:
    """Return what a job gets on a node with so many of its GPUs; None where Slurm does not say.

    `cluster` returns the defaults of the whole cluster, and is asked only where they decide.
    """
    for asked, field in (
        (options.mem_bytes, "mem_bytes"),
        (options.mem_per_gpu_bytes, "mem_per_gpu_bytes"),
        (options.mem_per_cpu_bytes, "mem_per_cpu_bytes"),
    ):
        if asked is None:
            continue
        said_by = options.origins.get(field, field)
        if field == "mem_bytes":
            return _limit(node, asked or node.memory_bytes, said_by)
        count = num_gpus if field == "mem_per_gpu_bytes" else num_cpus_on(options, node, num_gpus)
        return _limit(node, asked * count, f"{said_by} x {count}")
    names = options.partitions or (inventory.default_partition or "",)
    found = [
        _by_default(options, node, num_gpus, inventory.partitions[name], cluster)
        for name in names
        if name in inventory.partitions and name in node.partitions
    ]
    known = [limit for limit in found if limit is not None]
    return min(known, key=lambda limit: limit.num_bytes, default=None)


def _by_default(
    options: SubmitOptions,
    node: Node,
    num_gpus: int,
    partition: Partition,
    cluster: Callable[[], Partition],
) -> MemoryLimit | None:
    owner = f"partition {partition.name}"
    if not _has_default(partition):
        partition, owner = cluster(), "the cluster"
    if partition.memory_per_gpu_bytes is not None and num_gpus:
        said_by = f"DefMemPerGPU of {owner} x {num_gpus}"
        return _limit(node, partition.memory_per_gpu_bytes * num_gpus, said_by)
    if partition.memory_per_cpu_bytes is not None:
        count = num_cpus_on(options, node, num_gpus, partition.cpus_per_gpu)
        said_by = f"DefMemPerCPU of {owner} x {count}"
        return _limit(node, partition.memory_per_cpu_bytes * count, said_by)
    if partition.memory_per_node_bytes is not None:
        return _limit(node, partition.memory_per_node_bytes, f"DefMemPerNode of {owner}")
    return _limit(node, node.memory_bytes, f"all memory of {node.name}")


def _has_default(partition: Partition) -> bool:
    return any(
        value is not None
        for value in (
            partition.memory_per_gpu_bytes,
            partition.memory_per_cpu_bytes,
            partition.memory_per_node_bytes,
        )
    )


def _limit(node: Node, num_bytes: int | None, said_by: str) -> MemoryLimit | None:
    return None if num_bytes is None else MemoryLimit(num_bytes, said_by)


def num_cpus_on(
    options: SubmitOptions, node: Node, num_gpus: int, cpus_per_gpu: int | None = None
) -> int:
    """Return the CPUs that a job gets on a node, one per task unless it asks for more."""
    if options.exclusive and node.num_cpus is not None:
        return node.num_cpus
    if options.cpus_per_task is None:
        per_gpu = options.cpus_per_gpu or cpus_per_gpu
        if per_gpu is not None and num_gpus:
            return per_gpu * num_gpus
    tasks = options.ntasks_per_node or ceil_div(options.num_tasks, options.num_nodes)
    return tasks * (options.cpus_per_task or 1)
