"""docs/kinds.md has a row for every kind of training whose counted steps are kept, and one for what each engine is priced with."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

FORMULAS = Path(__file__).parents[1] / "formulas"


def script(name: str) -> ModuleType:
    """Return a script that writes a part of the page, as a module."""
    spec = importlib.util.spec_from_file_location(name, FORMULAS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_priced_under_each_engine_is_what_the_formulas_say():
    table = script("kinds_engines")
    shown = table.PAGE.read_text().partition(table.BEGIN)[2].partition(table.END)[0]

    assert shown == table.rows()
    assert {"yes", "no"} <= set(shown.replace("|", " ").split())


def test_every_kind_that_was_counted_has_its_row():
    table = script("kinds_table")
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
