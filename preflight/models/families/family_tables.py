"""The tables of types that were laid out by a command: tables/*.json, as table_layout.py explains them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from preflight.own_tables import read_table

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tables")


@lru_cache(maxsize=16)
def family_table(model_type: str) -> Mapping[str, Any] | None:
    """Return the table of a type; None where there is none."""
    path = os.path.join(FOLDER, f"{model_type}.json")
    if not model_type.replace("_", "").replace("-", "").isalnum() or not os.path.isfile(path):
        return None
    found: Mapping[str, Any] = read_table(path)
    return found
