"""Slurm's way to write many host names at once: `gpu-[01-04,07],big-01`, read and written."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

from preflight.lazy_pattern import lazy_pattern

MOST_NAMES = 200_000
"""More than any cluster has nodes; a longer list is a slip, or meant to take our memory."""

MOST_DIGITS = 20

_PART = lazy_pattern(r"(?:[^,\[\]]|\[[^\]]*\])+")
_NUMBERED = lazy_pattern(r"(.*?)(\d+)")


def host_names(text: str) -> tuple[str, ...]:
    """Return every name of a list, in its order; raise ValueError where it cannot be read."""
    if text.count("[") != text.count("]"):
        raise ValueError(f"no list of hosts: {text[:60]!r}")
    found: list[str] = []
    for part in _PART.findall(text):
        pieces = [
            _numbers(piece[1:-1]) if piece.startswith("[") else [piece]
            for piece in re.findall(r"\[[^\]]*\]|[^\[\]]+", part.strip())
        ]
        for words in itertools.product(*pieces):
            found.append("".join(words))
            if len(found) > MOST_NAMES:
                raise ValueError(f"more than {MOST_NAMES:,} hosts in {text[:60]!r}")
    return tuple(dict.fromkeys(name for name in found if name))


def _numbers(text: str) -> list[str]:
    """Return what a bracket stands for: `01-03,7` is 01, 02, 03 and 7."""
    found: list[str] = []
    for item in text.split(","):
        first, dash, last = item.strip().partition("-")
        are_numbers = first.isdecimal() and (not dash or last.isdecimal())
        if not are_numbers or max(len(first), len(last)) > MOST_DIGITS:
            raise ValueError(f"no numbers of hosts: [{text[:60]}]")
        low, high = int(first), int(last or first)
        if high - low >= MOST_NAMES - len(found):
            raise ValueError(f"more than {MOST_NAMES:,} hosts in [{text[:60]}]")
        found += [f"{number:0{len(first)}d}" for number in range(low, high + 1)]
    return found


def host_list(names: Iterable[str]) -> str:
    """Write names as Slurm would, where they differ in their last number: `gpu-[01-04,07]`."""
    groups: dict[tuple[str, int], list[int]] = {}
    plain: list[str] = []
    for name in dict.fromkeys(names):
        numbered = _NUMBERED.fullmatch(name)
        if numbered is None:
            plain.append(name)
            continue
        prefix, digits = numbered.groups()
        groups.setdefault((prefix, len(digits)), []).append(int(digits))
    written = []
    for (prefix, width), numbers in groups.items():
        runs = _runs(sorted(numbers))
        texts = [
            f"{low:0{width}d}" if low == high else f"{low:0{width}d}-{high:0{width}d}"
            for low, high in runs
        ]
        is_one = len(texts) == 1 and "-" not in texts[0]
        written.append(prefix + (texts[0] if is_one else f"[{','.join(texts)}]"))
    return ",".join([*written, *plain])


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs
