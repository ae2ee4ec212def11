"""Distributions that are installed in some folders, by the names of their metadata: nothing is imported or run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from preflight.files import entries_of, read_text, readable_text

MOST_METADATA_BYTES = 1024**2
"""Of a METADATA or PKG-INFO file, most of which is the library's README."""


def versions_in(folders: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Return import name -> version of what is installed in some folders; the first folder wins.

    Reads the names of `*.dist-info` and `*.egg-info`: importlib.metadata opens every folder's files.
    """
    found: dict[str, str] = {}
    for folder in folders:
        for name, version in _distributions(folder, _changed(folder)):
            if name in names:
                found.setdefault(name, version)
    return found


def normalized(name: str) -> str:
    """Return a distribution's name as its metadata folder writes it: `Flash-Attn` is flash_attn."""
    return re.sub(r"[-_.]+", "_", name).lower()


def _changed(folder: str) -> int:
    """Return when a folder last got or lost an entry, so that what is kept of it is not old."""
    try:
        return os.stat(folder or ".").st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=32)
def _distributions(folder: str, changed: int) -> tuple[tuple[str, str], ...]:
    return tuple(
        pair
        for entry in entries_of(folder or ".")
        for pair in _distribution(os.path.join(folder, entry), entry)
    )


def _distribution(path: str, entry: str) -> Iterator[tuple[str, str]]:
    """Yield name and version of one entry of a folder, where it is a distribution's metadata."""
    stem, _, kind = entry.rpartition(".")
    if kind in ("dist-info", "egg-info") and stem:
        name, _, rest = stem.partition("-")
        version = re.sub(r"-py\d.*$", "", rest)
        if not version:  # an egg-info beside its sources has no version in its name
            file = {"dist-info": "METADATA", "egg-info": "PKG-INFO"}[kind]
            version = _version_of(os.path.join(path, file) if os.path.isdir(path) else path)
        if version:
            yield normalized(name), version
    elif kind == "egg-link":  # `setup.py develop`, and `pip install -e` before pip 25
        try:
            source = read_text(path, MOST_METADATA_BYTES).splitlines()[0].strip()
            beside = sorted(name for name in os.listdir(source) if name.endswith(".egg-info"))
        except (OSError, UnicodeDecodeError, IndexError):
            return
        for name in beside:
            yield from _distribution(os.path.join(source, name), name)


def _version_of(path: str) -> str:
    text = readable_text(path, MOST_METADATA_BYTES)
    match = re.search(r"^Version:[ \t]*(\S+)", text, re.M)
    return match[1] if match else ""
