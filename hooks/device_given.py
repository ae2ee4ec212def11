"""Devices whose memory the user states: `NAME:GIB`, such as `h100:80` or, for a CPU test, `tiny:0.05`."""

from __future__ import annotations

from preflight.device import DeviceSpec
from preflight.devices.gpu_table import GpuEntry, device_of, find_gpus
from preflight.errors import BadInput
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.units import GIB

LIKE_ITS_NAME_SHARE = 0.15
"""A stated size further than this from the card's own is a budget, not that card."""


@hookimpl
def preflight_describe_device(plan: LaunchPlan) -> DeviceSpec | None:
    """Describe a device of exactly the stated GiB, with the abilities of the card it is named after."""
    if plan.device is None or ":" not in plan.device:
        return None
    name, _, text = (part.strip() for part in plan.device.rpartition(":"))
    origin = plan.origins.get("device")
    where = origin.where if origin else "--device"
    capacity = _capacity(name, text, plan.device, where)
    source = f"{where} {plan.device}" if where.startswith("-") else f"{plan.device}, {where}"
    entry = _nearest(find_gpus(name), capacity)
    if entry is None:
        return DeviceSpec(name=name, capacity_bytes=capacity, source=source)
    device = device_of(entry, capacity, source, name=name)
    if abs(capacity / GIB - entry.marketing_gb) <= LIKE_ITS_NAME_SHARE * entry.marketing_gb:
        return device
    from dataclasses import replace

    return replace(device, key=None)


def _capacity(name: str, text: str, given: str, where: str) -> int:
    """Return the stated bytes; raise BadInput for anything but a positive number after a name."""
    digits = text.lower().removesuffix("gib").removesuffix("gb").strip()
    try:
        gib = float(digits)
    except ValueError:
        gib = 0.0
    capacity = int(gib * GIB) if 0 < gib < float("inf") else 0
    if not name or capacity < 1:
        raise BadInput.one(
            f"a device with a size is NAME:GIB, not {given!r}", where, "`h100:79.1`, `tiny:0.05`"
        )
    return capacity


def _nearest(candidates: tuple[GpuEntry, ...], capacity_bytes: int) -> GpuEntry | None:
    """Return the card of that name whose size is nearest to the stated one."""
    return min(
        candidates, key=lambda entry: abs(entry.marketing_gb - capacity_bytes / GIB), default=None
    )
