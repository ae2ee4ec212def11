"""What the drivers of this machine list: nvidia-smi, else rocm-smi, asked without any library of theirs."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from preflight.devices.gpu_table import find_gpus
from preflight.files import find_program
from preflight.units import GIB, MIB
from preflight.values import dataclass

DRIVER_TIMEOUT_S = 5.0

NVIDIA_QUERY = "name,memory.total,memory.free,compute_cap,mig.mode.current,memory.reserved,uuid"
OLD_NVIDIA_QUERY = "name,memory.total,memory.free,compute_cap,mig.mode.current"
"""For drivers that know no `memory.reserved` and refuse the whole query."""


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


def nvidia_cards(hidden_too: bool = False) -> tuple[str, list[Card]]:
    """Return the tool that was asked and the NVIDIA cards that a process here would see, or all there are."""
    tool = find_program("nvidia-smi", os.environ.get("PATH", ""))
    if tool is None:
        return "nvidia-smi", []
    text = ""
    for query in (NVIDIA_QUERY, OLD_NVIDIA_QUERY):
        text = output_of([tool, f"--query-gpu={query}", "--format=csv,noheader,nounits"]) or ""
        if text:
            break
    cards = [card for line in text.splitlines() if (card := _nvidia_card(line)) is not None]
    chosen = None if hidden_too else os.environ.get("CUDA_VISIBLE_DEVICES")
    if any(card.is_mig for card in cards):
        return "nvidia-smi", _mig_slices(output_of([tool, "-L"]) or "", cards, chosen)
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
    return int(number) * MIB if number.isdecimal() else None


def _capability(text: str) -> tuple[int, int] | None:
    major, _, minor = text.partition(".")
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else None


def _visible(cards: Sequence[Card], chosen: str | None) -> list[Card]:
    """Return the cards that a process would see: CUDA stops at the first entry that names none."""
    if chosen is None:
        return list(cards)
    seen = []
    for part in chosen.split(","):
        name = part.strip()
        if name.isdecimal() and int(name) < len(cards):
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


def amd_cards() -> tuple[str, list[Card]]:
    """Return the tool that was asked and the AMD cards that a process here would see."""
    tool = find_program("rocm-smi", os.environ.get("PATH", ""))
    if tool is None:
        return "rocm-smi", []
    text = output_of([tool, "--showproductname", "--showmeminfo", "vram", "--json"])
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
    return int(text) if text.isdecimal() else None


def output_of(argv: list[str]) -> str | None:
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
