"""Offloading of activations where nothing is recomputed: formulas against TRL's rule on traces."""

from __future__ import annotations

from dataclasses import replace

import pytest

from preflight.derive.costs.formula_table import formulas_of, moments_of
from preflight.derive.layouts.small_models import small_config, small_launch
from preflight.derive.layouts.small_sizes import NUM_VARIANTS
from preflight.judge import collect_terms
from preflight.memory import Moment
from preflight.models import describe
from preflight.trace.job import job_of
from preflight.trace.run import trace
from tests.formulas.offloading import offloading

NUM_LAYERS = 8
TOLERANCE = 0.05
"""Of the peak; which tensors wait together is taken as the widest that a layer has."""


@pytest.mark.parametrize("method", ["full", "LoRA", "LoRA, autocast", "QLoRA, autocast"])
@pytest.mark.parametrize("model_type", ["llama", "qwen3", "phi3", "mixtral"])
def test_what_is_saved_is_not_on_the_device(plugins, model_type, method):
    config = {**small_config(model_type, NUM_VARIANTS), "num_hidden_layers": NUM_LAYERS}
    model = describe(config, "small", "here")
    kept = small_launch(model_type, method, False, micro_batch_size=2, seq_len=640)
    offloaded = replace(kept, offload_activations="cpu")
    with offloading():
        traced = moments_of(trace(job_of(kept, model, full_depth=True)).levels)
    formulas = formulas_of(offloaded, model, plugins)
    peak = max(formulas[moment] for moment in traced)

    assert peak == pytest.approx(max(traced.values()), rel=TOLERANCE)
    saved = formulas_of(kept, model, plugins)[Moment.LOSS_FORWARD]
    assert formulas[Moment.LOSS_FORWARD] < 0.95 * saved


def test_a_release_that_does_not_note_storages_leaves_nothing(plugins):
    model = describe({**small_config("llama"), "num_hidden_layers": NUM_LAYERS}, "small", "here")
    plan = small_launch("llama", "LoRA", False, seq_len=640, offload_activations="cpu")
    old = replace(plan, versions={"trl": "0.19.1"})
    term = "activations that offloading leaves"

    def left(one) -> int:
        return sum(t.num_bytes for t in collect_terms(one, model, plugins) if t.name == term)

    assert left(old) < left(plan) / 4
