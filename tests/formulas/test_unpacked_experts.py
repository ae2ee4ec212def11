"""Stacked experts that axolotl has bitsandbytes pack: parameters, and layers against traces of its parametrization."""

from __future__ import annotations

from dataclasses import replace

import pytest

from preflight.derive.formula_table import ends_of_kinds, formulas_of, moments_of
from preflight.derive.small_models import NUM_VARIANTS, small_config, small_launch
from preflight.formulas.adaptations import ATTENTION, Adaptation, targets_of
from preflight.formulas.sharding import held_tensors, scale_bytes
from preflight.formulas.untraced import untraced
from preflight.model import EXPERTS
from preflight.models import describe
from preflight.plugins import load_plugins
from preflight.trace.job import job_of
from preflight.trace.run import trace

OF_ATTENTION = Adaptation("attention", ATTENTION)
LENGTH = 640


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    return load_plugins(str(tmp_path_factory.mktemp("here")))


def packed_launch(model_type, checkpointing, method="QLoRA, autocast", **changes):
    model = describe(small_config(model_type, NUM_VARIANTS), "small", "here")
    plan = small_launch(model_type, method, checkpointing, seq_len=LENGTH, **changes)
    packed = replace(plan.base_quantization, experts=True)
    adapter = replace(plan.adapter, targets=targets_of(OF_ATTENTION, model))
    return replace(plan, base_quantization=packed, adapter=adapter), model


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("model_type", ["qwen3_moe", "mixtral"])
def test_packed_experts_cost_what_bitsandbytes_makes_of_them(plugins, model_type, checkpointing):
    plan, model = packed_launch(model_type, checkpointing)
    traced = moments_of(trace(job_of(plan, model, full_depth=True)).levels, ends_of_kinds(model))
    formulas = formulas_of(plan, model, plugins)

    scales = sum(
        h.count * scale_bytes(plan, h.tensor.num_params)
        for h in held_tensors(plan, model)
        if h.quantized and h.tensor.kind == EXPERTS
    )

    for moment, num_bytes in traced.items():  # a trace has parameters alone, not what hangs on them
        assert formulas[moment] - scales == pytest.approx(num_bytes, rel=0.001), moment


UNPRICED = "quantized experts"


@pytest.mark.parametrize(
    "changes",
    [
        {"engine": "fsdp2", "shard_degree": 8},
        {"engine": "zero3", "shard_degree": 8},
        {"checkpointing_reentrant": False},
        {"model_type": "llama4_text"},
    ],
)
def test_packed_experts_that_nobody_counted_are_named(changes):
    """Whole on every rank or not, kept by bitsandbytes before 0.50, or of a layer whose rows no size tells apart."""
    model_type = changes.pop("model_type", "qwen3_moe")
    plan, model = packed_launch(model_type, True, checkpointing_reentrant=True)
    named = [p.unpriced for p in untraced(replace(plan, **changes), model)]

    assert UNPRICED in named
    assert UNPRICED not in [p.unpriced for p in untraced(*packed_launch("qwen3_moe", False))]
