"""PF501: host memory of the node's ranks against what the node, a cgroup or Slurm gives them."""

from __future__ import annotations

from collections.abc import Iterator

from preflight import node
from preflight.finding import Finding
from preflight.findings import found
from preflight.launch import LaunchPlan
from preflight.memory import Level, MemoryEstimate, Phase
from preflight.this_node import environment, starts_here
from preflight.units import format_gib

ALLOWANCE = "host: processes"
"""The term that is an allowance and no count: alone it refuses nothing (hooks/memory_host.py)."""


def findings(
    plan: LaunchPlan, estimate: MemoryEstimate | None, root: str = "/"
) -> Iterator[Finding]:
    """Compare the host peak with the lowest limit; Slurm's is the job's wherever its ranks start."""
    if estimate is None or not estimate.host_peak_bytes_per_node:
        return
    env = environment(plan)
    limits = []
    if starts_here(plan):
        limits += _of_this_node(root)
    slurm = node.slurm_memory(env) if "SLURM_JOB_ID" in env and plan.on_this_node else None
    if slurm is not None:
        limits.append(slurm)
    if not limits:
        return
    yield from compared(plan, estimate, min(limits, key=lambda limit: limit.num_bytes))


def compared(
    plan: LaunchPlan, estimate: MemoryEstimate, limit: node.MemoryLimit
) -> Iterator[Finding]:
    """Compare the host peak of a node with what its ranks may have there."""
    needed = estimate.host_peak_bytes_per_node
    if needed <= limit.num_bytes:
        return
    host = [term for term in estimate.terms if term.level is Level.HOST]
    allowance = sum(term.num_bytes for term in host if term.name == ALLOWANCE)
    counted = [term for term in host if term.name != ALLOWANCE]
    is_sure = needed - allowance > limit.num_bytes and limit.said_by != "MemAvailable"
    largest = max(counted, key=lambda term: term.num_bytes, default=None)
    told = "" if largest is None else f"; largest: {largest.name.removeprefix('host: ')}"
    phase = estimate.host_peak_phase
    yield found(
        "PF501",
        f"the ranks of a node need {format_gib(needed)} of host memory"
        f" ({'' if phase is None else phase.value.replace('_', ' ')}{told}),"
        f" and {limit.said_by} gives {format_gib(limit.num_bytes)}",
        limit.said_by if limit.said_by.startswith(("$", "/", "--")) else "",
        _fix(plan, phase),
        severity="error" if is_sure else "warning",
    )


def _of_this_node(root: str) -> list[node.MemoryLimit]:
    limits = []
    memory = node.meminfo(root)
    for name in ("MemTotal", "MemAvailable"):
        if name in memory:
            limits.append(node.MemoryLimit(memory[name], name))
    group = node.cgroup_memory(root)
    return [*limits, group] if group is not None else limits


def _fix(plan: LaunchPlan, phase: Phase | None) -> str:
    if phase is Phase.LOAD:
        return "load the weights in the checkpoint's own dtype, or ask for more memory (--mem)"
    if plan.offload_optimizer != "none" or plan.offload_params != "none":
        return "offload less, spread the ranks over more nodes, or ask for more memory (--mem)"
    return "ask for more memory (--mem), or start fewer ranks on a node"
