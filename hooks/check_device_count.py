"""PF119, PF139: more ranks on a node than it has devices, and nodes with different numbers of ranks.

The extra workers die with "CUDA error: invalid device ordinal" after all others have loaded the
model. Known where a driver was asked, so only on the machine that launches, and where the launch
itself says which devices are visible: CUDA_VISIBLE_DEVICES or accelerate's gpu_ids.
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.device import DeviceSpec
from preflight.finding import Finding
from preflight.findings import found
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.launchers.all import launcher_of
from preflight.shell.starters.variables import num_visible_devices


@hookimpl
def preflight_findings(plan: LaunchPlan, device: DeviceSpec | None) -> Iterable[Finding]:
    """Compare the ranks of a node with the devices that the driver or the launch names."""
    yield from _uneven(plan)
    if any(layer.kind == "srun" for layer in plan.wrapping):
        return  # the ranks start on nodes of Slurm's choice, not here
    count, said_by = _visible(plan)
    if device is not None and device.count is not None and (count is None or device.count <= count):
        count, said_by = device.count, ""
    if count is None or plan.ranks_per_node <= count:
        return
    origin = plan.origins.get("world_size")
    per_node = launcher_of(plan).ranks_per_node_flag
    flag = f"{per_node} {count}" if per_node else f"--num_processes {count * plan.num_nodes}"
    yield found(
        "PF119",
        f"{plan.ranks_per_node} ranks on a node with {count} visible devices"
        + (f" ({said_by})" if said_by else ""),
        origin.where if origin else "",
        f"{flag}, and more gradient accumulation to keep the global batch",
    )


def _visible(plan: LaunchPlan) -> tuple[int | None, str]:
    """Return how many devices the launch lets its ranks see, and who says so; None where nobody does."""
    chosen = plan.rank_facts.gpu_ids
    if chosen is not None and str(chosen.value) not in ("all", "None"):
        count, said_by = (
            num_visible_devices({"CUDA_VISIBLE_DEVICES": str(chosen.value)}),
            f"gpu_ids: {chosen.value}",
        )
    elif plan.launcher == "deepspeed":
        return None, ""  # its slots are numbers of their own
    else:
        text = "" if plan.command is None else plan.command.env.get("CUDA_VISIBLE_DEVICES", "")
        count, said_by = (
            num_visible_devices({"CUDA_VISIBLE_DEVICES": text}),
            f"CUDA_VISIBLE_DEVICES={text}",
        )
    # None at all is a launch on CPUs.
    return (count, said_by) if count else (None, "")


def _uneven(plan: LaunchPlan) -> Iterable[Finding]:
    by_host = plan.rank_facts.ranks_by_host
    counts = sorted(set(by_host.values()))
    if len(counts) > 1:
        fewest = min(by_host, key=by_host.__getitem__)
        yield found(
            "PF139",
            f"{fewest} starts {counts[0]} ranks, another node {counts[-1]}: the host memory of a node"
            f" is estimated for {plan.ranks_per_node}",
            "",
            "the same number of slots for every host, or --include",
        )
