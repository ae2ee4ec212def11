"""PF119: more ranks on a node than it has devices.

The extra workers die with "CUDA error: invalid device ordinal" after all others have loaded the
model. Only known where a driver was asked, so only on the machine that launches.
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.device import DeviceSpec
from preflight.finding import Finding
from preflight.findings import found
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan

FLAGS = {"torchrun": "--nproc-per-node", "deepspeed": "--num_gpus"}
"""Launchers that are told the ranks of a node; accelerate is told the ranks of all."""


@hookimpl
def preflight_findings(plan: LaunchPlan, device: DeviceSpec | None) -> Iterable[Finding]:
    """Compare the ranks of a node with the devices the driver reports."""
    if device is None or device.count is None or plan.ranks_per_node <= device.count:
        return
    if any(layer.kind == "srun" for layer in plan.wrapping):
        return  # the ranks start on nodes of Slurm's choice, not here
    origin = plan.origins.get("world_size")
    per_node = FLAGS.get(plan.launcher or "")
    flag = (
        f"{per_node} {device.count}"
        if per_node
        else f"--num_processes {device.count * plan.num_nodes}"
    )
    yield found(
        "PF119",
        f"{plan.ranks_per_node} ranks on a node with {device.count} visible devices",
        origin.where if origin else "",
        f"{flag}, and more gradient accumulation to keep the global batch",
    )
