"""The versions of the installed libraries that decide defaults, read from their metadata without importing them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import lru_cache

KNOWN_VERSIONS = {
    "accelerate": "1.16.0",
    "transformers": "5.24.0",
    "trl": "1.16.0",
    "peft": "0.21.2",
    "deepspeed": "0.19.8",
    "torch": "2.13.0",
    "torchtune": "0.6.1",
    "torchtitan": "0.3.0",
    "litgpt": "0.5.13",
    "bitsandbytes": "0.50.2",
}
"""The versions this reader was checked against: taken where a library is not installed here."""


def installed_versions(names: tuple[str, ...] = tuple(KNOWN_VERSIONS)) -> dict[str, str]:
    """Return import name -> version for the libraries that this Python has.

    Reads the names of `*.dist-info` folders on sys.path: importlib.metadata opens every folder's
    files, which costs more than the rest of a check. A rewrite is read again: the folders are
    listed once.
    """
    return dict(_installed(tuple(sys.path), names))


@lru_cache(maxsize=4)
def _installed(folders: tuple[str, ...], names: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for folder in folders:
        try:
            entries = os.listdir(folder or ".")
        except OSError:
            continue
        for entry in entries:
            if not entry.endswith(".dist-info"):
                continue
            name, _, version = entry[: -len(".dist-info")].partition("-")
            name = name.lower().replace("-", "_")
            if name in names and name not in found and version:
                found[name] = version
    return found


def versions_used(installed: Mapping[str, str]) -> dict[str, str]:
    """Return the version of every library whose defaults a plan follows."""
    return {**KNOWN_VERSIONS, **installed}
