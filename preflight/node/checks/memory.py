"""PF501: host memory of the node's ranks against what the node, a cgroup or Slurm gives them."""

from __future__ import annotations

from collections.abc import Iterator

from preflight.finding import Finding
from preflight.findings import found
from preflight.launch import LaunchPlan
from preflight.memory import HOST_ALLOWANCE, Level, MemoryEstimate, Phase
from preflight.node import limits as node
from preflight.node.this_node import host_limit, starts_here
from preflight.units import GIB, format_gib


def findings(
    plan: LaunchPlan, estimate: MemoryEstimate | None, root: str = "/"
) -> Iterator[Finding]:
    """Compare the host peak with the lowest limit, and with what is free now."""
    if estimate is None or not estimate.host_peak_bytes_per_node:
        return
    known = plan.host_memory_gib
    if known is not None and estimate.host_peak_bytes_per_node > known * GIB:
        return  # the verdict says so
    limit = host_limit(plan, root)
    limits = [] if limit is None else [limit]
    available = node.meminfo(root).get("MemAvailable") if starts_here(plan) else None
    if available is not None:
        limits.append(node.MemoryLimit(available, "MemAvailable"))
    if limits:
        yield from compared(plan, estimate, min(limits, key=lambda limit: limit.num_bytes))


def compared(
    plan: LaunchPlan, estimate: MemoryEstimate, limit: node.MemoryLimit
) -> Iterator[Finding]:
    """Compare the host peak of a node with what its ranks may have there."""
    needed = estimate.host_peak_bytes_per_node
    if needed <= limit.num_bytes:
        return
    host = [term for term in estimate.terms if term.level is Level.HOST]
    allowance = sum(term.num_bytes for term in host if term.name == HOST_ALLOWANCE)
    counted = [term for term in host if term.name != HOST_ALLOWANCE]
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


def _fix(plan: LaunchPlan, phase: Phase | None) -> str:
    if phase is Phase.LOAD:
        return "load the weights in the checkpoint's own dtype, or ask for more memory (--mem)"
    if plan.offload_optimizer != "none" or plan.offload_params != "none":
        return "offload less, spread the ranks over more nodes, or ask for more memory (--mem)"
    return "ask for more memory (--mem), or start fewer ranks on a node"
