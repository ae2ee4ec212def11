"""Devices of this machine, as its driver reports them: nvidia-smi, else rocm-smi; asked for `auto` or no device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from preflight.device import DeviceSpec
from preflight.devices.gpu_table import GpuEntry, device_of, find_gpus
from preflight.errors import BadInput
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.units import GIB, MIB

if TYPE_CHECKING:
    from preflight.devices.driver import Card

LARGEST_RESERVE_BYTES = 870 * MIB
"""What the driver kept of a card at most: 81920 MiB against 79.15 GiB for torch, A100 80GB (data/README.md)."""


@hookimpl
def preflight_describe_device(plan: LaunchPlan) -> DeviceSpec | None:
    """Describe the smallest visible device of this machine; nothing where there is no driver."""
    if plan.device is not None and plan.device.lower() != "auto":
        return None
    from preflight.devices.driver import amd_cards, nvidia_cards

    is_asked = plan.device is not None
    origin = plan.origins.get("device")
    where = origin.where if origin else "--device"
    tool, cards = nvidia_cards()
    if not cards:
        tool, cards = amd_cards()
    devices = [_device(card, tool, len(cards), not is_asked) for card in cards]
    known = [device for device in devices if device is not None]
    if devices and len(known) == len(devices):
        return min(known, key=lambda device: device.capacity_bytes)
    if not is_asked:
        return None
    if cards:
        unknown = next(c.name for c, device in zip(cards, devices, strict=True) if device is None)
        raise BadInput.one(
            f"{tool} does not say how much memory {unknown} has",
            where,
            "give what torch reports on it: `--device NAME:GIB`",
        )
    raise BadInput.one(
        f"{plan.device} asks this machine's driver, and there is none that shows a device",
        where,
        "name the device the launch is for: `--device h100-sxm-80`, `--device NAME:GIB`",
    )


def _device(card: Card, tool: str, count: int, is_assumed: bool) -> DeviceSpec | None:
    """Return the device of one card; None where nobody knows its memory."""
    entry = _entry(card)
    capacity, how = _capacity(card, entry)
    if capacity is None:
        return None
    source = f"{tool}, {how}"
    if entry is not None:
        return device_of(
            entry,
            capacity,
            source,
            name=card.name,
            count=count,
            free_bytes=card.free_bytes,
            is_assumed=is_assumed,
        )
    capability = card.compute_capability
    is_nvidia = capability is not None
    return DeviceSpec(
        name=card.name,
        capacity_bytes=capacity,
        count=count,
        compute_capability=capability,
        # bf16 from Ampere on, fp8 from Ada on (CUDA programming guide, arithmetic by compute capability).
        supports_bf16=capability >= (8, 0) if is_nvidia and capability else None,
        supports_fp8=capability >= (8, 9) if is_nvidia and capability else None,
        vendor=card.vendor,
        free_bytes=card.free_bytes,
        source=source,
        is_assumed=is_assumed,
    )


def _entry(card: Card) -> GpuEntry | None:
    """Return the table's card of that name whose size is nearest to the driver's."""
    candidates = find_gpus(card.name)
    if not candidates or card.total_bytes is None:
        return candidates[0] if candidates else None
    gib = card.total_bytes / GIB
    return min(candidates, key=lambda entry: abs(entry.marketing_gb - gib))


def _capacity(card: Card, entry: GpuEntry | None) -> tuple[int | None, str]:
    """Return what torch may have of a card, and how that is known."""
    table = entry.capacity_bytes if entry is not None else None
    if card.is_mig or card.total_bytes is None:
        return table, "size from the GPU table"
    if card.vendor != "NVIDIA":
        return card.total_bytes, "its total"
    if card.reserved_bytes is not None:
        return card.total_bytes - card.reserved_bytes, "its total less its reserve"
    if entry is not None and table is not None and entry.driver_total_mib is not None:
        reserve = entry.driver_total_mib * MIB - table
        return card.total_bytes - reserve, "its total less the reserve in the GPU table"
    return card.total_bytes - LARGEST_RESERVE_BYTES, "its total less the largest reserve seen"
