"""Formulas in several releases: an environment answers for itself, and a cell says what is off."""

import sys

from preflight.derive.version_table import rows_of, table_lines


def test_an_environment_traces_with_what_is_installed_there():
    import transformers

    rows = rows_of(sys.executable, ["llama", "no_such_type"])

    assert {row["transformers"] for row in rows} == {transformers.__version__}
    assert [abs(row["error"]) < 0.002 for row in rows if row["family"] == "llama"] == [True] * 2
    assert [row["error"] for row in rows if row["family"] == "no_such_type"] == [None] * 2


def test_a_cell_is_marked_where_it_is_off_and_empty_where_nothing_ran():
    cell = {"transformers": "5.0.0", "family": "llama"}
    rows = [{**cell, "method": "full", "error": 0.031}, {**cell, "method": "LoRA", "error": None}]

    assert table_lines(rows)[-1] == "| llama | **+3.1** / - |"
