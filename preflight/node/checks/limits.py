"""PF512, PF513, PF517: shared memory, locked memory and CPUs of this node against what its ranks take."""

from __future__ import annotations

from collections.abc import Iterator

from preflight.finding import Finding
from preflight.findings import found
from preflight.launch import LaunchPlan
from preflight.node import limits as node
from preflight.node.this_node import environment
from preflight.units import GIB, format_gib

SMALL_SHARED_MEMORY_BYTES = GIB
"""Below it NCCL's segments and the batches of loader workers run out: Docker's default is 64 MiB, and NCCL's
manual asks containers for `--shm-size=1g --ulimit memlock=-1` (NCCL user guide, troubleshooting, 2.27)."""


def findings(plan: LaunchPlan, root: str = "/") -> Iterator[Finding]:
    """Compare the node's limits with the ranks and their loader workers."""
    workers = plan.trainer_facts.value("dataloader_num_workers", 0)
    num_workers = workers if isinstance(workers, int) and not isinstance(workers, bool) else 0
    yield from _shared_memory(plan, num_workers, node.shared_memory(root))
    if plan.num_nodes > 1 and environment(plan).get("NCCL_IB_DISABLE", "0") == "0":
        yield from _locked_memory(root)
    total = num_workers * plan.ranks_per_node
    cpus = node.num_cpus(root)
    if total > cpus:
        setting = plan.trainer_facts.given("dataloader_num_workers")
        yield found(
            "PF517",
            f"{plan.ranks_per_node} ranks x {num_workers} loader workers on a node with {cpus} CPUs",
            setting.place.where if setting else "",
            f"--dataloader_num_workers {max(1, cpus // plan.ranks_per_node - 1)}, or more CPUs per task",
        )


def _shared_memory(
    plan: LaunchPlan, num_workers: int, space: node.Space | None
) -> Iterator[Finding]:
    uses = []
    if plan.ranks_per_node > 1:
        uses.append("NCCL")
    if num_workers:
        uses.append("the data loader's workers")
    if space is None or not uses or space.total_bytes >= SMALL_SHARED_MEMORY_BYTES:
        return
    yield found(
        "PF512",
        f"{space.path} has {format_gib(space.total_bytes)}, and {' and '.join(uses)} of"
        f" {plan.ranks_per_node} ranks share memory through it",
        space.path,
        "docker run --shm-size=8g or --ipc=host; in Kubernetes an emptyDir with medium: Memory",
    )


def _locked_memory(root: str) -> Iterator[Finding]:
    limits, devices = node.resource_limits(root), node.infiniband_devices(root)
    locked = limits.get("memlock_bytes")
    if not devices or locked is None or locked >= GIB:
        return
    yield found(
        "PF513",
        f"processes here may lock {format_gib(locked)} of memory, and {devices[0]} registers NCCL's"
        " buffers by locking them",
        "ulimit -l",
        "ulimit -l unlimited (LimitMEMLOCK=infinity of slurmd, --ulimit memlock=-1 of docker)",
    )
