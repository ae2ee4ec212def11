"""Experts as linear layers, before transformers 5.0: parameters, packing, and layers against traces of such a loop."""

from __future__ import annotations

import importlib

import pytest

from preflight.derive.costs.formula_table import formulas_of, moments_of
from preflight.derive.layouts.small_models import small_config, small_launch
from preflight.derive.layouts.small_sizes import NUM_VARIANTS
from preflight.formulas.adapters.linear_experts import LINEAR_EXPERTS, in_release
from preflight.formulas.sharding import held_tensors
from preflight.launch import Adapter
from preflight.memory import Moment
from preflight.models import describe
from preflight.models.families.mixture_of_experts import FAMILIES
from preflight.trace.job import job_of
from preflight.trace.patches import replaced
from preflight.trace.run import trace
from tests.formulas.looped_mixture import LoopedMixture

OLD = {"transformers": "4.57.6"}
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
LENGTH = 640


def traced_loop(plan, model):
    """Return the live bytes of a step with experts in a loop, which the trace sends as many tokens each.

    PEFT 0.21 takes a Mixtral's experts for one parameter; before 0.19 it took the linear layers that it found.
    """
    modeling = importlib.import_module("transformers.models.mixtral.modeling_mixtral")
    names = importlib.import_module("peft.utils.transformers_weight_conversion")
    with (
        replaced(modeling, "MixtralSparseMoeBlock", LoopedMixture),
        replaced(names, "convert_peft_config_for_transformers", lambda *config, **more: None),
    ):
        return moments_of(trace(job_of(plan, model, full_depth=True)).levels)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    "method", ["full", "LoRA", "LoRA, autocast", "QLoRA, bf16 under autocast", "QLoRA, autocast"]
)
def test_a_loop_over_experts_costs_what_its_trace_shows(plugins, method, checkpointing):
    model = describe(small_config("mixtral", NUM_VARIANTS), "small", "here")
    plan = small_launch("mixtral", method, checkpointing, seq_len=LENGTH, versions=OLD)
    if plan.adapter is not None:
        adapter = Adapter("lora", 8, 16, 0.0, ATTENTION, plan.adapter.dtype)
        plan = small_launch(
            "mixtral", method, checkpointing, seq_len=LENGTH, versions=OLD, adapter=adapter
        )
    traced = traced_loop(plan, model)
    formulas = formulas_of(plan, model, plugins)

    assert max(formulas[m] for m in traced) == pytest.approx(max(traced.values()), rel=0.01)


@pytest.mark.parametrize("method", ["LoRA", "LoRA, autocast", "QLoRA, prepared, autocast"])
def test_all_linear_puts_an_adapter_on_every_linear_expert(plugins, method):
    """Their states were not counted at all, and neither were autocast's copies of them."""
    model = describe(small_config("mixtral", NUM_VARIANTS), "small", "here")
    plan = small_launch("mixtral", method, False, seq_len=LENGTH, versions=OLD)
    traced, formulas = traced_loop(plan, model), formulas_of(plan, model, plugins)
    step = Moment.OPTIMIZER_STEP

    assert formulas[step] == pytest.approx(traced[step], rel=0.001)
    assert max(formulas[m] for m in traced) == pytest.approx(max(traced.values()), rel=0.04)


@pytest.mark.parametrize("model_type", sorted(LINEAR_EXPERTS & FAMILIES.keys()))
def test_linear_experts_are_the_same_parameters_and_are_packed(model_type):
    model = describe(small_config(model_type), "small", "here")
    plan = small_launch(model_type, "QLoRA", False)
    old = small_launch(model_type, "QLoRA", False, versions=OLD)

    def packed(one) -> int:
        held = held_tensors(one, in_release(one, model))
        return sum(h.count * h.tensor.num_params for h in held if h.quantized)

    assert in_release(plan, model) is model
    assert in_release(old, model).num_params == model.num_params
    experts = sum(
        u.count * t.num_params for u in model.layers for t in u.tensors if t.kind == "experts"
    )
    assert packed(old) >= packed(plan) + experts > 0
