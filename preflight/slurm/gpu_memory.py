"""How much memory a node's GPUs have, which Slurm does not know: from a site's map, features, the type, the GPU table.

The answer is a range where the words of a site leave several cards open: `a100` is sold with 40 and with
80 GB. A range is one device for what is surely there and one for what may be there at most.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace

from preflight.device import DeviceSpec
from preflight.devices.gpu_table import (
    SAME_CAPACITY_SHARE,
    GpuEntry,
    device_of,
    find_gpus,
    gpu_table,
    plain_name,
)
from preflight.lazy_pattern import lazy_pattern
from preflight.units import GIB
from preflight.values import dataclass

LABELS_BESIDE_THE_TABLE = {"gh200": (144,), "h20": (141,)}
"""GB of cards that the table lacks, by the type that a site would give them.

Sources: NVIDIA GH200 data sheet, HBM3e version; resellers' pages of the H20-3e; November 2026. They only
widen a range: what such a card holds is not refused.
"""
SAME_SHORT_NAME = {"rtx6000": ("rtx6000-24", "rtx6000ada-48", "rtxpro6000-96")}
"""Types that name several generations, without marks, as `plain_name` writes them."""

_LABEL_OF_FEATURE = lazy_pattern(r"(.*?)[-_:.]?(?<!\d)(\d{1,3})\s*(?:g|gb|gib)", re.IGNORECASE)
"""gpu_mem:80gb, GPU_MEM:16GB, vram_48g, hbm80g, A100-80GB, volta32gb, 80gb: the words, and the number."""
_BARE_NUMBER = lazy_pattern(r"(gpu|vram|gpu_?mem|gmem)[-_:]?(\d{2,3})", re.IGNORECASE)
"""gpu80, gpu_mem:80."""
_SAYS_GPU = lazy_pattern(
    r"gpu|vram|hbm|gmem|kepler|pascal|volta|turing|ampere|(^|[-_])ada|hopper|blackwell|cdna",
    re.IGNORECASE,
)
"""Words in front of a number that is a GPU's; without one, `192g` may as well be the host's memory."""
_LABEL_OF_TYPE = lazy_pattern(r"(?<![\d.])(\d{1,3})gb?(?![a-z0-9.])", re.IGNORECASE)
"""The size in `a100_80gb`, `v100-32g` and in a MIG profile, `1g.10gb`."""


@dataclass(frozen=True)
class GpuMemory:
    """What one GPU of a node holds: two devices that differ where its site's words leave it open."""

    low: DeviceSpec
    high: DeviceSpec
    origin: str
    """`feature gpu_mem:80gb`, `GRES type a100`, `site.yaml:4`."""

    @property
    def is_range(self) -> bool:
        return self.low.capacity_bytes != self.high.capacity_bytes


@dataclass(frozen=True)
class SiteMap:
    """What an admin wrote about the GPUs of a cluster: words of the GPU table, or GiB that torch may have."""

    types: Mapping[str, str]
    """GRES type, lower case -> `a100-sxm-40`, `39.4`."""
    features: Mapping[str, str]
    origins: Mapping[str, str]
    """`types.a100` -> `site.yaml:3`."""


NO_MAP = SiteMap({}, {}, {})


def gpu_memory(
    type_: str, features: Collection[str], site: SiteMap = NO_MAP, is_only_type: bool = True
) -> GpuMemory | None:
    """Return the memory of a GPU by its GRES type and its node's features; None where nothing tells it.

    `is_only_type` is false on a node with several types, whose features may mean either.
    """
    mapped = _of_map(type_, features, site)
    if mapped is not None:
        return mapped
    cards = cards_of_type(type_)
    for feature in sorted(features):
        label, says_gpu = label_of_feature(feature)
        fitting = [card for card in cards if card.marketing_gb == label]
        if label and (fitting or (says_gpu and is_only_type)):
            return _of_label(label, cards, type_, f"feature {feature}")
    label = label_of_type(type_)
    if label is not None:
        return _of_label(label, cards, type_, f"GRES type {type_}")
    if cards:
        return _of_cards(cards, type_, f"GRES type {type_}")
    if is_only_type:
        for feature in sorted(features):
            cards = cards_of_type(feature)
            if cards:
                return _of_cards(cards, feature, f"feature {feature}")
    return None


def _of_map(type_: str, features: Collection[str], site: SiteMap) -> GpuMemory | None:
    for kind, table, names in (
        ("features", site.features, sorted(features)),
        ("types", site.types, [type_.lower()]),
    ):
        for name in names:
            if name in table:
                origin = site.origins.get(f"{kind}.{name}", "the site's map")
                device = device_of_words(table[name], type_ or name, origin)
                return GpuMemory(device, device, origin)
    return None


def device_of_words(words: str, name: str, origin: str) -> DeviceSpec:
    """Return the device of a key of the GPU table, or of GiB; raise ValueError for anything else."""
    try:
        gib = float(words)
    except ValueError:
        cards = [card for card in find_gpus(words) if card.capacity_bytes is not None]
        capacities = [card.capacity_bytes or 0 for card in cards]
        if not cards or min(capacities) != max(capacities):
            raise ValueError(f"{words!r} is neither GiB nor one card of the GPU table") from None
        return device_of(cards[0], capacities[0], origin)
    if not 0 < gib < 10_000:
        raise ValueError(f"{words!r} is no number of GiB that a GPU has")
    return DeviceSpec(name, int(gib * GIB), source=origin)


def device_words(device: DeviceSpec) -> str:
    """Return a device as `--device` takes it: its key, or `NAME:GIB`."""
    if device.key is not None:
        return device.key
    return f"{device.name}:{device.capacity_bytes / GIB:.4f}"


def cards_of_type(type_: str) -> list[GpuEntry]:
    """Return every card that a GRES type or feature may mean: `h100` is each H100, `h100_nvl` is one."""
    wanted = plain_name(type_)
    if not wanted:
        return []
    table = gpu_table()
    keys = SAME_SHORT_NAME.get(wanted)
    if keys:
        return [card for card in table if card.key in keys]
    family = [card for card in table if card.key.partition("-")[0] == wanted]
    named = [*find_gpus(type_)]
    if not family and not named:
        named = _by_beginning(wanted)
    if "sxm" in wanted or "pcie" in wanted:  # a form, which is sold in several sizes
        stems = {card.key.rpartition("-")[0] for card in named}
        named += [card for card in table if card.key.rpartition("-")[0] in stems]
    return [card for card in table if card in family or card in named]


def _by_beginning(wanted: str) -> list[GpuEntry]:
    """Return the cards whose longest alias begins a type: `a100custom64gb`, `h100sxm594gb`."""
    best: dict[str, list[GpuEntry]] = {}
    for card in gpu_table():
        for alias in (plain_name(alias) for alias in card.aliases):
            if len(alias) >= 3 and not alias.isdecimal() and wanted.startswith(alias):
                best.setdefault(alias, []).append(card)
    if not best:
        return []
    longest = max(best, key=len)
    family = [card for card in gpu_table() if card.key.partition("-")[0] == longest]
    return [*best[longest], *family]


def label_of_feature(feature: str) -> tuple[int | None, bool]:
    """Return the GB in a node's feature, None where it has none, and whether it says that a GPU has them."""
    found = _LABEL_OF_FEATURE.fullmatch(feature) or _BARE_NUMBER.fullmatch(feature)
    if found is None or not 4 <= int(found.group(2)) <= 400:
        return None, False
    words = found.group(1)
    says_gpu = bool(_SAYS_GPU.search(words)) or bool(cards_of_type(words.rstrip("-_:.")))
    return int(found.group(2)), says_gpu


def label_of_type(type_: str) -> int | None:
    """Return the GB in a GRES type, of its slice where it is one of MIG: `a100_1g.10gb` is 10."""
    plain = type_.lower().replace("_", "-")
    profile = re.search(r"\d+g\.(\d{1,3})gb", plain)
    found = profile or _LABEL_OF_TYPE.search(plain)
    return int(found.group(1)) if found else None


def _of_label(label: int, cards: list[GpuEntry], type_: str, origin: str) -> GpuMemory:
    """Return the memory of a card sold as so many GB: of this type, else as others of that size or share leave it."""
    own = [card for card in cards if card.marketing_gb == label and card.capacity_bytes]
    if own:
        return _range(own, origin)
    like = [card.torch_total_gib for card in gpu_table() if card.marketing_gb == label]
    sizes = [gib for gib in like if gib is not None]
    if not sizes:
        sizes = [label * share for share in _usable_shares()]
    name = type_ or f"GPU-{label}GB"
    low, high = (
        DeviceSpec(name, int(gib * GIB), source=origin, is_assumed=True)
        if not cards
        else replace(
            device_of(cards[0], int(gib * GIB), origin, name=name, is_assumed=True), key=None
        )
        for gib in (min(sizes), max(sizes))
    )
    return GpuMemory(low, high, f"{origin}, as other cards sold as {label} GB")


def _usable_shares() -> tuple[float, float]:
    """Return the least and the largest share of its label that a card of the table leaves torch, in GiB for GB."""
    shares = [
        card.torch_total_gib / card.marketing_gb
        for card in gpu_table()
        if card.torch_total_gib is not None
    ]
    return min(shares), max(shares)


def _of_cards(cards: list[GpuEntry], type_: str, origin: str) -> GpuMemory:
    """Return the range of some cards; one whose memory nobody knows, a custom part, yields to the others."""
    known = [card for card in cards if card.capacity_bytes is not None]
    if not known:
        ranges = [_of_label(card.marketing_gb, cards, type_, origin) for card in cards]
        low = min(ranges, key=lambda found: found.low.capacity_bytes)
        high = max(ranges, key=lambda found: found.high.capacity_bytes)
        return GpuMemory(low.low, high.high, low.origin)
    found = _range(known, origin)
    for label in LABELS_BESIDE_THE_TABLE.get(plain_name(type_), ()):
        larger = _of_label(label, [replace(known[0], marketing_gb=0)], type_, origin).high
        found = GpuMemory(found.low, larger, f"{origin}, also sold with {label} GB")
    return found


def _range(cards: list[GpuEntry], origin: str) -> GpuMemory:
    """Return the smallest and the largest of some cards of known memory."""
    by_size = sorted(cards, key=lambda card: card.capacity_bytes or 0)
    low, high = (device_of(by_size[at], by_size[at].capacity_bytes or 0, origin) for at in (0, -1))
    if high.capacity_bytes == low.capacity_bytes:
        return GpuMemory(low, low, origin)
    if high.capacity_bytes - low.capacity_bytes > SAME_CAPACITY_SHARE * high.capacity_bytes:
        origin += ", " + " or ".join(card.key for card in by_size)
    return GpuMemory(low, high, origin)
