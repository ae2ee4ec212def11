"""The cards that clouds and schedulers name in words of their own, as keys of the GPU table."""

from __future__ import annotations

import re
from collections.abc import Iterable

from preflight.devices.gpu_table import find_gpus, one_gpu
from preflight.lazy_pattern import lazy_pattern

CLOUD_NAMES = {
    "a100": "a100-sxm-40",
    "nvidia-tesla-a100": "a100-sxm-40",
    "nvidia-h200-141gb": "h200-sxm-141",
    "nvidia-h100-mega-80gb": "h100-sxm-80",
    "v100": "v100-sxm-16",
    "v100-32gb": "v100-sxm-32",
    "nvidia-tesla-v100": "v100-sxm-16",
}
"""Words that mean one card to clouds, and several or none to the table: SkyPilot 0.14.1's catalogs have an A100 of 40 GB
beside `A100-80GB` and a V100 of 16 GB beside `V100-32GB`; GKE's `cloud.google.com/gke-accelerator` is the same."""

MOST_GPUS = 64
"""Of a node, as far as a file is believed."""

FLAVORS = lazy_pattern(r"(?:zero-)?(.+?)(?:-(?:small|medium|large))?(?:x(\d+))?")
"""Hardware of the Hugging Face Hub: `a10g-largex4`, `l40sx8`, `a100-large` (SpaceHardware of huggingface_hub 2.4)."""
FLAVOR_NAMES = {"a100": "a100-sxm-80", "rtx-pro-6000": "rtx-pro-6000"}


def count_of(value: object) -> int | None:
    """Return a count that a file gives as a number or as digits; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return int(value) if value == int(value) and value > 0 else None
    text = str(value).strip()
    return int(text) if text.isdecimal() and len(text) < 7 and int(text) > 0 else None


def card_of(word: str) -> str | None:
    """Return the key of the card that a cloud means by a word; None where it may be several, or nobody knows it."""
    key = CLOUD_NAMES.get(word.lower().strip())
    card = one_gpu(find_gpus(key or word.strip()))
    return None if card is None else card.key


def card_of_any(words: Iterable[str]) -> str | None:
    """Return the card that all of some words mean; None where they mean several."""
    cards = {card_of(word) for word in words}
    return cards.pop() if len(cards) == 1 else None


def named_and_counted(word: str) -> tuple[str | None, int | None]:
    """Return card and count of `A100-80GB:8`, `H100`, `80GB:2` or `A100:80GB:8`; a name without a count is one."""
    name, memory, count = "", "", None
    for token in str(word).replace(" ", "").split(":"):
        if token.lower() in ("nvidia", "amd"):
            continue
        if token[:1].isalpha():
            name = token
        elif re.fullmatch(r"\d+(?:GB|Gi|GiB)", token, re.IGNORECASE):
            memory = re.sub(r"\D", "", token)
        else:
            count = count_of(token)
            if count is None:
                return None, None  # a range, or a fraction
    if not name:
        return None, bounded(count or 1)
    card = card_of(f"{name}-{memory}GB") if memory else None
    return card or card_of(name), bounded(count or 1)


def flavor(word: str) -> tuple[str | None, int | None]:
    """Return card and count of a flavor of the Hugging Face Hub; (None, None) for a machine without GPUs."""
    match = FLAVORS.fullmatch(word.lower())
    if match is None or word.startswith("cpu"):
        return None, None
    name = match[1]
    return card_of(FLAVOR_NAMES.get(name, name)), bounded(int(match[2] or 1))


def bounded(count: int | None) -> int | None:
    """Return a number of GPUs that a node may have; None for any other."""
    return count if count is not None and 0 < count <= MOST_GPUS else None
