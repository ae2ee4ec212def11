"""Finding a few lines of a large sorted file without reading the rest of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

Key = TypeVar("Key", str, tuple[str, ...])

BLOCK = 2048
"""Bytes of one read. The search stops halving where less than one is left, and reads on from there."""


def lines_of(path: str, key_of: Callable[[str], Key], wanted: Key) -> Iterator[str]:
    """Yield the lines of one key, of a file whose lines are in the order of their keys.

    Lines that begin with # stand before the others.
    """
    with open(path, "rb", buffering=BLOCK) as file:
        first, last = 0, file.seek(0, 2)
        while last - first > BLOCK:
            file.seek((first + last) // 2)
            file.readline()  # the rest of a line whose beginning was jumped over
            start = file.tell()
            line = file.readline().decode()
            if start >= last:
                break
            if line.startswith("#") or key_of(line) < wanted:
                first = start + len(line.encode())
            else:
                last = start
        file.seek(first)
        for raw in file:
            line = raw.decode()
            if line.startswith("#") or (key := key_of(line)) < wanted:
                continue
            if key > wanted:
                return
            yield line.rstrip("\n")
