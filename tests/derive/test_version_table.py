"""Formulas in several releases: an environment answers for itself, and a cell says what is off."""

from __future__ import annotations

import sys

from preflight.derive.pages.version_table import launch_of, rows_of, table_lines, with_rows
from preflight.derive.target import ROOT
from preflight.plugins import load_plugins


def test_an_environment_traces_with_what_is_installed_there():
    import transformers

    rows = rows_of(sys.executable, ["no_such_type"])

    assert {row["transformers"] for row in rows} == {transformers.__version__}
    assert all("no_such_type" in row["why"] for row in rows)


def test_a_cell_is_marked_where_it_is_off_and_empty_where_nothing_ran(tmp_path):
    versions = {"transformers": "5.24.0", "peft": "0.21.2", "torch": "2.13.0"}
    row = {**versions, "family": "llama", "method": "full", "checkpointing": False}
    plan, _ = launch_of("llama", "full", False, versions)
    far = {**row, "traced": {"forward": plan.micro_batch_size}}
    not_run = {**row, "method": "LoRA", "why": "it has none"}

    cells = table_lines([far, not_run], load_plugins(str(ROOT)))[-1].split(" / ")

    assert cells[0].startswith("| llama | **+")
    assert cells[1:] == ["-", "-", "- |"]


def test_new_rows_take_the_place_of_those_of_the_same_family_and_release():
    old = [{"family": f, "transformers": "5.0.0", "is_new": False} for f in ("llama", "qwen2")]
    new = [{"family": "llama", "transformers": r, "is_new": True} for r in ("5.0.0", "4.57.6")]

    assert with_rows(old, new) == [new[1], old[1], new[0]]
