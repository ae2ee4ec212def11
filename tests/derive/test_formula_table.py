"""The table of formulas against traces is what the command prints, and nothing in it is off by more than allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from preflight.derive.costs.formula_table import BEGIN, COLUMNS, END, compare_all, table_lines
from preflight.derive.layouts.small_sizes import SMALL_MODELS, TOWERS
from preflight.models.families.groups import group_of
from preflight.plugins import load_plugins

PAGE = Path(__file__).parents[2] / "docs" / "formulas.md"
LINES = PAGE.read_text().partition(BEGIN)[2].partition(END)[0].split("\n")
ROWS = {line.split("|")[1].strip(): line for line in LINES if line.startswith("|")}
PLAIN_PERCENT, OTHER_PERCENT = 0.1, 1.0
OTHERS = ("latent_attention", "linear_attention")
TRACED_AGAIN = ("qwen3_moe", "gpt_neox")
"""Experts, and LayerNorm with biases: the rest takes minutes."""


def test_every_family_is_in_the_table():
    assert list(ROWS)[2:] == list(SMALL_MODELS)
    assert ROWS["% off"] == table_lines([], {})[0]


@pytest.mark.parametrize("model_type", list(SMALL_MODELS))
def test_no_method_is_off_by_more_than_allowed(model_type):
    is_other = model_type in TOWERS or group_of(model_type) in OTHERS
    allowed = OTHER_PERCENT if is_other else PLAIN_PERCENT
    cells = [cell.strip() for cell in ROWS[model_type].strip("|").split("|")[1:]]

    assert len(cells) == len(COLUMNS)
    assert all(abs(float(cell)) <= allowed for cell in cells), ROWS[model_type]


@pytest.mark.parametrize("model_type", TRACED_AGAIN)
def test_rows_are_what_is_traced_today(tmp_path, model_type):
    compared, not_run = compare_all([model_type], load_plugins(str(tmp_path)), lambda text: None)

    assert table_lines(compared, not_run)[-1] == ROWS[model_type]
