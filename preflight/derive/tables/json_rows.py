"""JSON with one row of a table to a line, so that what a release changed reads well in a diff."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any


def in_rows(
    tables: Mapping[str, Any], nested: Collection[str] = (), flat: Collection[str] = ()
) -> str:
    """Return tables as text: the rows of each on lines of their own.

    The values of a `nested` table are tables themselves; a `flat` one stays on its line.
    """
    parts = []
    for name, table in tables.items():
        if not isinstance(table, Mapping) or name in flat:
            text = json.dumps(table)
        elif name in nested:
            inner = (f"  {json.dumps(key)}: {_rows(rows, 3)}" for key, rows in table.items())
            text = "{\n" + ",\n".join(inner) + "\n }"
        else:
            text = _rows(table, 2)
        parts.append(f" {json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _rows(table: Mapping[str, Any], indent: int) -> str:
    rows = (f"{' ' * indent}{json.dumps(key)}: {json.dumps(row)}" for key, row in table.items())
    return "{\n" + ",\n".join(rows) + f"\n{' ' * (indent - 1)}}}"
