"""Layers in older releases of transformers: what small launches kept there, traced in their environments, and formulas.

`python -m preflight.derive.version_table FAMILY --python VENV/bin/python --write` makes the rows again.
"""

from __future__ import annotations

import pytest

from preflight.derive.version_table import kept_rows, launch_of, worst_of
from preflight.formulas.layer_coefficients import has_own_release, method_of
from preflight.formulas.linear_experts import LINEAR_EXPERTS
from preflight.formulas.precision import precision_of
from preflight.formulas.releases import RELEASES
from preflight.plugins import load_plugins
from preflight.versions.boundary import release

ROWS = [row for row in kept_rows() if "traced" in row]


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    return load_plugins(str(tmp_path_factory.mktemp("here")))


@pytest.mark.parametrize("transformers", sorted({row["transformers"] for row in ROWS}, key=release))
def test_formulas_are_near_what_an_older_release_kept(plugins, transformers):
    rows = [row for row in ROWS if row["transformers"] == transformers]
    off = {
        (row["family"], row["method"], row["checkpointing"]): round(100 * error, 1)
        for row in rows
        if abs(error := worst_of(row, plugins)) > most_off(row)
    }

    assert rows
    assert off == {}


ONCE_IN_A_MODEL = {"gemma2": 0.07}
"""Families that hold something once beside their layers which newer releases do not: Gemma 2's embeddings and masks."""
LOOPS = 0.14
"""Of experts in a loop, whose layers are made of those that stack them; in three layers of a few hundred features."""


def most_off(row) -> float:
    is_loop = row["family"] in LINEAR_EXPERTS and row["transformers"] < "5"
    return LOOPS if is_loop else ONCE_IN_A_MODEL.get(row["family"], 0.01)


def test_a_release_has_a_table_only_where_the_newest_does_not_hold(plugins):
    """Attention in fp32 without scores, before 4.54; experts whose rows are gathered twice, before 5.5."""
    found = {
        (family, method, one.traced): has_own_release(
            plan, model, method_of(plan, precision_of(plan, model))
        )
        for one in RELEASES
        for family, method in (("llama", "full"), ("llama", "full, fp32"), ("mixtral", "LoRA"))
        for plan, model in [launch_of(family, method, False, {"transformers": one.traced})]
    }

    assert [key for key, is_own in found.items() if is_own] == [
        ("llama", "full, fp32", "4.53.3"),
        ("mixtral", "LoRA", "5.0.0"),
    ]
