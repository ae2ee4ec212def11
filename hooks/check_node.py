"""PF501 to PF521: what the node lacks that a launch needs, looked for only where the launch starts on it.

That is with `--here` and `--device auto`, in `run` where no device is named, and not behind srun, ssh or a
container: on a login node, memory, disk, ports and packages are not those of the job (docs/decisions.md, 34).
A checkpoint that is already there is read from anywhere. The rules are in `preflight/node/checks/`.
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.finding import Finding
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import MemoryEstimate
from preflight.model import ModelSpec
from preflight.plan_choices import HF_TRAINERS


@hookimpl
def preflight_findings(
    plan: LaunchPlan, model: ModelSpec | None, estimate: MemoryEstimate | None
) -> Iterable[Finding]:
    """Compare the launch with this node, and its checkpoint folder with its ranks."""
    if not plan.is_read:
        return
    if plan.trainer in HF_TRAINERS:
        from preflight.node.checks import resume
        from preflight.node.this_node import sees_same_files

        if sees_same_files(plan):
            yield from resume.findings(plan)
    if not plan.on_this_node:
        return
    from preflight.node.checks import memory
    from preflight.node.this_node import starts_here

    yield from memory.findings(plan, estimate)
    if not starts_here(plan):
        return
    from preflight.node.checks import data, disk, hub, limits, network, packages, ports

    yield from ports.findings(plan)
    yield from network.findings(plan)
    yield from limits.findings(plan)
    yield from packages.findings(plan)
    yield from hub.findings(plan, model)
    yield from data.findings(plan)
    yield from disk.findings(plan, model)
