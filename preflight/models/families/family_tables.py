"""The tables of types that were laid out by a command: tables/*.json, as table_layout.py explains them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from preflight.own_tables import table_in

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tables")


@lru_cache(maxsize=16)
def family_table(model_type: str) -> Mapping[str, Any] | None:
    """Return the table of a type; None where there is none."""
    return table_in(FOLDER, model_type)
