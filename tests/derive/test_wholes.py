"""Models around a decoder: what is kept of them is what the command finds, and their decoder is priced inside them."""

from dataclasses import replace
from math import prod

import pytest

from preflight.derive.costs.formula_table import formulas_of, moments_of
from preflight.derive.layouts.small_models import small_config, small_launch
from preflight.derive.tables.wholes import whole_of
from preflight.formulas.limits.left_out import with_left_out
from preflight.launch import LaunchPlan
from preflight.memory import Moment
from preflight.models import describe
from preflight.models.families import wholes
from preflight.plugins import load_plugins
from preflight.trace.build import build
from preflight.trace.job import job_of
from preflight.trace.run import trace
from preflight.unpriced_names import BESIDE_TEXT

DECODERS = {"fuyu": "persimmon", "got_ocr2": "qwen2", "lfm2_vl": "lfm2", "voxtral": "llama"}
"""One without a section of its own for images, one whose class has no SDPA, one whose decoder a table lays out, one
that hears."""


def whole_config(name, **more):
    text = small_config(DECODERS[name], 2)
    return {"model_type": name, "text_config": {**text, **more}}


def parameters_of(config):
    from preflight.trace.job import TraceJob

    model = build(TraceJob(config=config, full_depth=True)).model
    return {path: tuple(parameter.shape) for path, parameter in model.named_parameters()}


def described(config):
    parameters = parameters_of(config)
    count = sum(prod(shape) for shape in parameters.values())
    return describe(config, config["model_type"], "a test", count), parameters


@pytest.mark.parametrize("name", ["got_ocr2", "lfm2_vl"])
def test_what_is_kept_of_a_whole_is_what_its_command_finds(name):
    kept = wholes._rows()[name]

    assert whole_of(name, DECODERS[name]) == {**kept, "classes": tuple(kept["classes"])}


def test_a_whole_whose_parts_take_something_else_is_none():
    """Gemma 4's unified model hands its decoder a mask."""
    assert whole_of("gemma4_unified", "gemma4_unified_text") is None


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_has_its_own_names_inside_a_whole_and_the_rest_is_counted(name):
    spec, parameters = described(whole_config(name))
    mine = {}
    for unit in (unit for unit in spec.units if unit.role not in ("tower", "projector", "other")):
        places = unit.places or range(unit.count)
        prefix = unit.name.partition(".*")[0]
        for path in [f"{prefix}.{i}" for i in places] if unit.role == "layer" else [unit.name]:
            mine.update({f"{path}.{tensor.name}": tensor.shape for tensor in unit.tensors})

    assert mine.items() <= parameters.items()
    assert spec.num_params == sum(prod(shape) for shape in parameters.values())


@pytest.mark.parametrize("name", DECODERS)
def test_formulas_of_a_decoder_are_a_trace_of_the_whole_on_text(name):
    spec, _ = described(whole_config(name))
    attention = spec.facts.get("attention") or "sdpa"
    plan = small_launch(DECODERS[name], "full", False, micro_batch_size=3)
    plan = replace(plan, attention=attention)
    levels = trace(job_of(plan, spec), num_steps=1).levels
    weights = levels[0].entry_bytes  # Voxtral's positions stay fp32
    traced, formulas = moments_of(levels), formulas_of(plan, spec, load_plugins("."))

    for moment in (Moment.FORWARD, Moment.LOSS_FORWARD):
        own = traced[moment] - weights
        assert formulas[moment] - 2 * spec.num_params == pytest.approx(own, rel=0.005), moment


def test_a_whole_without_a_section_for_images_is_asked_about_them():
    spec, _ = described(whole_config("fuyu"))
    plan = with_left_out(LaunchPlan(seq_len=64, micro_batch_size=1, command=()), spec)

    assert BESIDE_TEXT in {notice.unpriced for notice in plan.notices}
