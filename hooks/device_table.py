"""Devices by name: a key of the GPU table, a driver's device name, or an alias such as a Slurm gres type."""

from __future__ import annotations

from preflight.device import DeviceSpec
from preflight.devices.gpu_table import device_of, find_gpus, one_gpu, similar_gpus
from preflight.errors import BadInput
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan


@hookimpl
def preflight_describe_device(plan: LaunchPlan) -> DeviceSpec | None:
    """Describe a named device from the table; refuse a name that is not one card."""
    if plan.device is None or plan.device.lower() == "auto":
        return None
    name = plan.device
    origin = plan.origins.get("device")
    where = origin.where if origin else "--device"
    candidates = find_gpus(name)
    if not candidates:
        near = similar_gpus(name)
        known = "a key such as h100-sxm-80, a100-sxm-80 or rtx4090-24, or "
        meant = f"did you mean {' or '.join(near)}? otherwise " if near else known
        raise BadInput.one(
            f"no device is called {name!r}",
            where,
            f"{meant}give its size: `{_short(name)}:GIB`; `preflight gpus` lists all",
        )
    entry = one_gpu(candidates)
    if entry is None:
        keys = ", ".join(candidate.key for candidate in candidates)
        raise BadInput.one(f"{name!r} may be several devices: {keys}", where, "give one of these")
    capacity = entry.capacity_bytes
    if capacity is None:
        raise BadInput.one(
            f"the memory of {entry.name} is not in the table",
            where,
            f"give what torch reports on it: `{entry.key}:GIB`",
        )
    return device_of(entry, capacity, f"the GPU table: {entry.torch_total_source}")


def _short(name: str) -> str:
    return name.split(":")[0].strip() or "NAME"
