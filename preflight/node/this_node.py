"""Whether the ranks of a launch start on this node, and what its checks ask a plan: variables, arguments, paths.

What is missing here says something only where the ranks start here: with `--here` or `--device auto`, in
`run` where no device is named, and never behind srun, ssh or a container. What is seen (a checkpoint of another world size, a
folder that is full of checkpoints) is seen from a login node too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from preflight.launch import LaunchPlan

if TYPE_CHECKING:
    from preflight.node.limits import MemoryLimit

ELSEWHERE = ("srun", "ssh", "pdsh", "mpirun", "mpiexec", "parallel-ssh", "clush")
"""Wrappers that start their command on nodes of their choice."""
OTHER_FILES = ("apptainer exec", "docker run", "docker exec", "enroot start")
"""Wrappers whose command sees other files than this process does."""


def starts_here(plan: LaunchPlan) -> bool:
    """Tell whether the ranks start on this node and see the files that this process sees."""
    return plan.on_this_node and sees_same_files(plan) and not leaves_node(plan)


def host_limit(plan: LaunchPlan, root: str = "/") -> MemoryLimit | None:
    """Return the lowest limit of what the ranks of a node may hold that does not move: MemTotal, a cgroup's, Slurm's.

    Slurm's is the job's wherever its ranks start.
    """
    from preflight.node import limits as node

    limits: list[MemoryLimit] = []
    if starts_here(plan):
        total = node.meminfo(root).get("MemTotal")
        if total is not None:
            limits.append(node.MemoryLimit(total, "MemTotal"))
        group = node.cgroup_memory(root)
        if group is not None:
            limits.append(group)
    env = environment(plan)
    job = node.slurm_memory(env) if "SLURM_JOB_ID" in env and plan.on_this_node else None
    if job is not None:
        limits.append(job)
    return min(limits, key=lambda limit: limit.num_bytes, default=None)


def leaves_node(plan: LaunchPlan) -> bool:
    """Tell whether a wrapper or a host file starts the ranks somewhere else."""
    if any(layer.kind in ELSEWHERE for layer in plan.wrapping):
        return True
    hosts = plan.rank_facts.ranks_by_host
    return bool(hosts) and not any(host in ("localhost", "127.0.0.1") for host in hosts)


def sees_same_files(plan: LaunchPlan) -> bool:
    """Tell whether a path of the launch means the same file to its ranks as to this process."""
    for layer in plan.wrapping:
        words = layer.command.argv[: layer.start]
        if layer.kind in OTHER_FILES or any(w.startswith("--container-image") for w in words):
            return False
    return True


def environment(plan: LaunchPlan) -> Mapping[str, str]:
    """Return the variables that the launcher is started with."""
    return {} if plan.command is None else plan.command.env


def node_rank(plan: LaunchPlan) -> int:
    """Return this node's place among the nodes: 0 where nobody says."""
    setting = plan.rank_facts.node_rank
    text = "" if setting is None else str(setting.value)
    return int(text) if text.isdecimal() else 0
