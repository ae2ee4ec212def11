"""Tables that are shipped with preflight, which nobody names: JSON files that are read as they are, and large sorted ones in which
a few lines are found."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, TypeVar


def read_table(path: str) -> Any:
    """Return what a table of preflight's own holds; whoever needs it twice remembers it."""
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def beside(module_file: str, name: str) -> str:
    """Return the path of a file that lies beside a module, of the module's `__file__`."""
    return os.path.join(os.path.dirname(os.path.abspath(module_file)), name)


@lru_cache(maxsize=64)
def table_beside(module_file: str, name: str) -> dict[str, Any]:
    """Return what a table holds that lies beside a module, of the module's `__file__`; it is read once, and nobody changes it."""
    table: dict[str, Any] = read_table(beside(module_file, name))
    return table


def table_in(folder: str, name: str) -> dict[str, Any] | None:
    """Return what a folder's table of a name holds; None where it has none, or the name could be a path."""
    path = os.path.join(folder, f"{name}.json")
    if not name.replace("_", "").replace("-", "").isalnum() or not os.path.isfile(path):
        return None
    table: dict[str, Any] = read_table(path)
    return table


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
