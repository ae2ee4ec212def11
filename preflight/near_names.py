"""Which known name a misspelt one stands for."""

from __future__ import annotations

import os
from functools import lru_cache

NEAR = 0.7
"""What two names must share of both their lengths to be one misspelt: below it, `torch_dtype` is `torch_compile`."""


def nearest_fix(name: str, known: tuple[str, ...]) -> str:
    """Return `did you mean X`, or an empty string where nothing is near."""
    near = nearest(name, known)
    return f"did you mean {near}" if near else ""


def nearest(name: str, known: tuple[str, ...]) -> str:
    """Return the known name that a misspelt one stands for, or an empty string.

    Only names that have letters enough in common are given to difflib: a file may have thousands of unknown keys.
    """
    import difflib

    size = len(name)
    possible = [
        other
        for length, group in _by_length(known)
        if 2 * min(size, length) / (size + length or 1) >= NEAR
        for other, letters in group
        if 2 * sum(map(letters.__contains__, name)) / (size + length) >= NEAR
    ]
    near = difflib.get_close_matches(name, possible, n=1, cutoff=NEAR) if possible else ()
    return near[0] if near else ""


def nearest_file_fix(path: str, full_path: str, base: str = "the folder of the launch") -> str:
    """Return what to do about a path, as typed and in full, that names no file: a near name, or where it was looked for.

    `base` says in words where relative paths start.
    """
    folder = os.path.dirname(full_path)
    start = "" if os.path.isabs(path) else f": relative paths start at {base}"
    if os.path.isdir(full_path):
        return "name one of the files in it"
    if os.path.exists(full_path):
        return ""  # a pipe, a socket, a device: it is there, and is no file
    near = nearest_beside(full_path)
    if near is None:
        return f"there is no folder {folder}{start}"
    if near:
        return f"did you mean {os.path.join(os.path.dirname(path), near)}"
    return f"looked for {full_path}{start}" if start else f"nothing in {folder} has that name"


def nearest_beside(full_path: str) -> str | None:
    """Return the name in a path's folder that is nearest to the path's own, or an empty string; None without the folder."""
    folder, name = os.path.split(full_path)
    try:
        names = tuple(sorted(os.listdir(folder or os.curdir)))
    except (OSError, ValueError):  # ValueError: a null byte in the path
        return None
    return nearest(name, names)


@lru_cache(maxsize=8)
def _by_length(
    known: tuple[str, ...],
) -> tuple[tuple[int, tuple[tuple[str, frozenset[str]], ...]], ...]:
    """Return names with their letters, by length."""
    groups: dict[int, list[tuple[str, frozenset[str]]]] = {}
    for name in known:
        groups.setdefault(len(name), []).append((name, frozenset(name)))
    return tuple((length, tuple(group)) for length, group in groups.items())
