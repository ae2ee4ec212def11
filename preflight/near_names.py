"""Which known name a misspelt one stands for."""

from __future__ import annotations

from functools import lru_cache

NEAR = 0.7
"""What two names must share of both their lengths to be one misspelt: below it, `torch_dtype` is `torch_compile`."""


def nearest_fix(name: str, known: tuple[str, ...]) -> str:
    """Return `did you mean X`, or an empty string where nothing is near.

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
    return f"did you mean {near[0]}" if near else ""


@lru_cache(maxsize=8)
def _by_length(
    known: tuple[str, ...],
) -> tuple[tuple[int, tuple[tuple[str, frozenset[str]], ...]], ...]:
    """Return names with their letters, by length."""
    groups: dict[int, list[tuple[str, frozenset[str]]]] = {}
    for name in known:
        groups.setdefault(len(name), []).append((name, frozenset(name)))
    return tuple((length, tuple(group)) for length, group in groups.items())
