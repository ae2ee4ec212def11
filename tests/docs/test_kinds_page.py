"""docs/kinds.md has a row for every kind of training whose counted steps are kept, with how many these are."""

from __future__ import annotations

import importlib.util
from pathlib import Path

TABLE = Path(__file__).parents[1] / "formulas" / "kinds_table.py"


def test_every_kind_that_was_counted_has_its_row():
    spec = importlib.util.spec_from_file_location("kinds_table", TABLE)
    assert spec is not None
    assert spec.loader is not None
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    rows = table.PAGE.read_text().partition(table.BEGIN)[2].partition(table.END)[0].splitlines()
    shown = [tuple(cell.strip() for cell in row.split("|")[1:6]) for row in rows[2:]]

    assert shown == [
        (
            trained,
            table.NAMES[library],
            table.releases(found, library),
            table.ways(found),
            str(len(found)),
        )
        for (trained, library), found in sorted(table.counted().items())
    ]
