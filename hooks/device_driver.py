"""Devices of this machine, as its driver reports them: nvidia-smi, else rocm-smi; asked for `auto` or no device."""

from __future__ import annotations

import os
from collections.abc import Sequence

from preflight.device import DeviceSpec
from preflight.errors import BadInput
from preflight.gpu_table import GpuEntry, device_of, find_gpus
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.units import GIB, MIB
from preflight.values import dataclass

DRIVER_TIMEOUT_S = 5.0

NVIDIA_QUERY = "name,memory.total,memory.free,compute_cap,mig.mode.current,memory.reserved,uuid"
OLD_NVIDIA_QUERY = "name,memory.total,memory.free,compute_cap,mig.mode.current"
"""For drivers that know no `memory.reserved` and refuse the whole query."""

LARGEST_RESERVE_BYTES = 870 * MIB
"""What the driver kept of a card at most: 81920 MiB against 79.15 GiB for torch, A100 80GB (data/README.md)."""


@dataclass(frozen=True)
class Card:
    """One device as a driver lists it."""

    name: str
    total_bytes: int | None
    """None where memory is shared with the host and the driver gives no number."""
    free_bytes: int | None
    reserved_bytes: int | None = None
    compute_capability: tuple[int, int] | None = None
    is_mig: bool = False
    uuid: str = ""
    vendor: str = "NVIDIA"


@hookimpl
def preflight_describe_device(plan: LaunchPlan) -> DeviceSpec | None:
    """Describe the smallest visible device of this machine; nothing where there is no driver."""
    if plan.device is not None and plan.device.lower() != "auto":
        return None
    is_asked = plan.device is not None
    origin = plan.origins.get("device")
    where = origin.where if origin else "--device"
    tool, cards = _nvidia_cards()
    if not cards:
        tool, cards = _amd_cards()
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


def _nvidia_cards() -> tuple[str, list[Card]]:
    tool = _on_path("nvidia-smi")
    if tool is None:
        return "nvidia-smi", []
    text = ""
    for query in (NVIDIA_QUERY, OLD_NVIDIA_QUERY):
        text = _output([tool, f"--query-gpu={query}", "--format=csv,noheader,nounits"]) or ""
        if text:
            break
    cards = [card for line in text.splitlines() if (card := _nvidia_card(line)) is not None]
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if any(card.is_mig for card in cards):
        return "nvidia-smi", _mig_slices(_output([tool, "-L"]) or "", cards, chosen)
    return "nvidia-smi", _visible(cards, chosen)


def _nvidia_card(line: str) -> Card | None:
    fields = [field.strip() for field in line.split(",")]
    if len(fields) < 5 or not fields[0]:
        return None
    name, total, free, capability, mig = fields[:5]
    reserved = _mib(fields[5]) if len(fields) > 5 else None
    return Card(
        name=name,
        total_bytes=_mib(total),
        free_bytes=_mib(free),
        reserved_bytes=reserved,
        compute_capability=_capability(capability),
        is_mig=mig.lower() == "enabled",
        uuid=fields[6] if len(fields) > 6 else "",
    )


def _mib(text: str) -> int | None:
    number = text.removesuffix("MiB").strip()
    return int(number) * MIB if number.isdigit() else None


def _capability(text: str) -> tuple[int, int] | None:
    major, _, minor = text.partition(".")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None


def _visible(cards: Sequence[Card], chosen: str | None) -> list[Card]:
    """Return the cards that a process would see: CUDA stops at the first entry that names none."""
    if chosen is None:
        return list(cards)
    seen = []
    for part in chosen.split(","):
        name = part.strip()
        if name.isdigit() and int(name) < len(cards):
            seen.append(cards[int(name)])
        else:
            match = [
                card for card in cards if name.startswith("GPU-") and card.uuid.startswith(name)
            ]
            if len(match) != 1:
                break
            seen += match
    return seen


def _mig_slices(listing: str, cards: Sequence[Card], chosen: str | None) -> list[Card]:
    """Return the MIG slices of `nvidia-smi -L` as devices; a process sees one of them, or those it names.

    Their sizes are in the GPU table by card and profile; a card without slices counts as itself.
    """
    found: list[Card] = []
    parent: Card | None = None
    sliced = False
    index = -1
    for line in listing.splitlines():
        words = line.split()
        if line.startswith("GPU "):
            index += 1
            parent = cards[index] if index < len(cards) else None
            if parent is not None and not parent.is_mig:
                found.append(parent)
        elif words[:1] == ["MIG"] and len(words) > 1 and parent is not None:
            sliced = True
            uuid = line.rpartition("UUID:")[2].strip(" )")
            found.append(_slice(parent, words[1], uuid))
    named = [part.strip() for part in chosen.split(",")] if chosen is not None else None
    if named is not None and any(name.startswith("MIG-") for name in named):
        return [card for card in found if card.uuid in named]
    return found if sliced else _visible(cards, chosen)


def _slice(parent: Card, profile: str, uuid: str) -> Card:
    """Return one slice, under the table's name for that profile of that card where it has one."""
    family = parent.name.removeprefix("NVIDIA ").split()[0].split("-")[0].lower()
    total_gib = (parent.total_bytes or 0) / GIB
    candidates = [
        entry
        for entry in find_gpus(f"{family}_{profile}")
        if entry.key.startswith("mig-") and entry.marketing_gb <= total_gib
    ]
    name = candidates[0].key if candidates else f"{parent.name} MIG {profile}"
    return Card(name, None, None, None, parent.compute_capability, True, uuid)


def _amd_cards() -> tuple[str, list[Card]]:
    tool = _on_path("rocm-smi")
    if tool is None:
        return "rocm-smi", []
    import json

    text = _output([tool, "--showproductname", "--showmeminfo", "vram", "--json"])
    try:
        listing = json.loads(text) if text else {}
    except ValueError:
        return "rocm-smi", []
    cards = []
    for key in sorted(listing if isinstance(listing, dict) else ()):
        values = listing[key]
        if not key.startswith("card") or not isinstance(values, dict):
            continue
        total = _number(values.get("VRAM Total Memory (B)"))
        used = _number(values.get("VRAM Total Used Memory (B)"))
        spelled = ("Card Series", "Card series", "Card Model", "Card model")
        name = next((str(values[k]) for k in spelled if values.get(k)), "AMD GPU")
        free = None if total is None or used is None else total - used
        cards.append(Card(name, total, free, vendor="AMD"))
    chosen = os.environ.get("HIP_VISIBLE_DEVICES", os.environ.get("ROCR_VISIBLE_DEVICES"))
    return "rocm-smi", _visible(cards, chosen)


def _number(value: object) -> int | None:
    text = str(value).strip()
    return int(text) if text.isdigit() else None


def _on_path(program: str) -> str | None:
    """Return a program's path; a plain look, because shutil costs more than it finds."""
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        path = os.path.join(folder, program)
        if folder and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def _output(argv: list[str]) -> str | None:
    """Return what a program prints; None where it fails, hangs or cannot be started."""
    import subprocess

    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=DRIVER_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
