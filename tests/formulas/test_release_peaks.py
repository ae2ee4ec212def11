"""Peaks in several releases, of shapes and attentions that no table was solved from, against the formulas."""

from __future__ import annotations

import pytest
from recorded import recorded

from preflight.derive.costs.release_costs import LIBRARIES, installed
from preflight.derive.layouts.small_models import small_config
from preflight.derive.layouts.small_sizes import SMALL_MODELS
from preflight.formulas.cost_tables import TRACED_WITH_ONE_KEY_HEAD
from preflight.judge import estimate_memory
from preflight.models import describe
from tests.formulas.release_peaks import CASES, launch_of, traced_peak

ROWS = recorded("release_peaks.jsonl")
MOST_UNDER, MOST_OVER = 0.005, 0.04


def error_of(plugins, name, versions, peak_bytes):
    estimate = estimate_memory(*launch_of(name, versions), None, plugins)
    return estimate.allocated_peak_bytes / peak_bytes - 1


def test_formulas_are_near_the_peaks_of_every_release(plugins):
    off = {
        (row["case"], row["transformers"]): error
        for row in ROWS
        for versions in [{name: row[name] for name in LIBRARIES}]
        if not -MOST_UNDER
        < (error := error_of(plugins, row["case"], versions, row["peak_bytes"]))
        < MOST_OVER
    }

    assert {row["case"] for row in ROWS} == set(CASES)
    assert off == {}


@pytest.mark.parametrize("name", ["one key head, window", "fp32 queries by flash"])
def test_they_are_near_a_trace_of_today(plugins, name):
    error = error_of(plugins, name, installed(), traced_peak(name))

    assert abs(error) < MOST_UNDER


def test_families_with_one_key_head_in_their_traces_are_named():
    models = {name: describe(small_config(name), name, "here") for name in SMALL_MODELS}
    shapes = {name: [u.layer for u in model.layers if u.layer] for name, model in models.items()}
    found = {
        models[name].model_type
        for name, layers in shapes.items()
        if any(shape.num_kv_heads == 1 < shape.num_heads for shape in layers)
    }

    assert found == TRACED_WITH_ONE_KEY_HEAD
