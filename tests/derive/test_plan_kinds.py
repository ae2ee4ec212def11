"""Plans that formulas were wrong about are within a percent of their traces, and the page says what is so today."""

from __future__ import annotations

from pathlib import Path

import pytest

from preflight.derive.pages.plan_kinds import BEGIN, END, KINDS, WORST_OFF, measure, table_lines
from preflight.plugins import load_plugins

PAGE = Path(__file__).parents[2] / "docs" / "formulas.md"
ROWS = [
    line
    for line in PAGE.read_text().partition(BEGIN)[2].partition(END)[0].split("\n")
    if line.startswith("|")
][2:]
TRACED_AGAIN = {
    "modules_to_save, window": 0.001,
    "DoRA, small model": 0.001,
    "OPT with its dropout": 0.001,
}
"""Small or quick ones of three mechanisms -> what they may be off; the rest takes minutes."""


def test_every_kind_has_a_row_and_is_within_a_percent():
    assert len(ROWS) == len(KINDS)
    for kind, row in zip(KINDS, ROWS, strict=True):
        assert row.startswith(f"| {kind.name} | {kind.model.rpartition('/')[2]} |")
        off = float(row.split("|")[4].strip().strip("*")) / 100
        assert abs(off) <= WORST_OFF, row


@pytest.mark.parametrize("name", TRACED_AGAIN)
def test_a_kind_is_what_its_row_says(tmp_path, name):
    place, kind = next((i, k) for i, k in enumerate(KINDS) if k.name == name)
    measured = measure(kind, load_plugins(str(tmp_path)))

    assert abs(measured.error) <= TRACED_AGAIN[name]
    assert table_lines([measured])[-1] == ROWS[place]
