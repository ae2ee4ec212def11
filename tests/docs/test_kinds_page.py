"""docs/kinds.md has a row for every kind of training: its counted steps, and what each engine is priced with."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path
from types import ModuleType

FORMULAS = Path(__file__).parents[1] / "formulas"


def table() -> ModuleType:
    """Return the script that writes the page, as a module."""
    spec = importlib.util.spec_from_file_location("kinds_table", FORMULAS / "kinds_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows(script: ModuleType) -> dict[tuple[str, str], list[str]]:
    shown = script.PAGE.read_text().partition(script.BEGIN)[2].partition(script.END)[0]
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in shown.splitlines()[2:]]
    return {(trained, by): rest for trained, by, *rest in cells}


def test_what_is_priced_under_each_engine_is_what_the_formulas_say():
    script = table()
    shown = rows(script)

    assert [*shown] == script.kinds()
    for (trained, by), cells in shown.items():
        words = [cell.partition(",")[0] for cell in cells[6:11]]
        priced = [cell.strip() for cell in script.of_engines(by, trained, []).split("|")]
        assert [*words, cells[11]] == priced


def test_every_step_that_is_kept_is_counted_in_its_row():
    script = table()
    kept = Counter(kind for kind, _, _ in script.stored())

    for kind, cells in rows(script).items():
        assert int(cells[1]) >= kept[kind]
        assert (cells[5] != "") == (int(cells[1]) > 0)
