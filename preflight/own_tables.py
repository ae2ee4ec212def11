"""Tables that are shipped with preflight: JSON files of its own, which nobody names and which are read as they are."""

from __future__ import annotations

import json
import os
from functools import lru_cache
from typing import Any


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
