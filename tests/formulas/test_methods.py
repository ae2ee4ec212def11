"""Formulas against traces for every method: what trains, in which dtypes, under autocast or not, on which base."""

from __future__ import annotations

import pytest

from preflight.derive.costs.formula_table import compare, formulas_of, moments_of
from preflight.derive.layouts.small_models import plan_of, small_config
from preflight.derive.layouts.small_sizes import NUM_VARIANTS
from preflight.formulas.cost_tables import METHODS, method_of
from preflight.formulas.precision import precision_of
from preflight.models import describe
from preflight.trace.job import job_of
from preflight.trace.run import trace

TOLERANCE = 0.001
FEW_TOKENS = 128


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_has_the_bytes_of_its_trace(plugins, method, checkpointing):
    for compared in compare("llama", method, checkpointing, plugins):
        assert abs(compared.error) <= TOLERANCE, compared


@pytest.mark.parametrize(
    ("model_type", "method", "checkpointing"),
    [
        ("gpt2", "full, autocast", False),
        ("gpt2", "QLoRA", True),
        ("gpt_neox", "full, bf16 under autocast", True),
        ("gpt_neox", "QLoRA, autocast", False),
        ("qwen3_moe", "LoRA, autocast", True),
        ("qwen3_moe", "QLoRA, autocast", False),
    ],
)
def test_other_norms_and_experts_too(plugins, model_type, method, checkpointing):
    """Autocast runs LayerNorm in fp32; experts are not packed; GPT-2's own linear layers are."""
    for compared in compare(model_type, method, checkpointing, plugins):
        assert abs(compared.error) <= TOLERANCE, compared


@pytest.mark.parametrize("method", ["full", "full, autocast", "LoRA, autocast", "QLoRA"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_that_are_added_to_exist_twice_one_by_one(plugins, method, checkpointing):
    """A second micro step makes every gradient anew before it adds it to what is there."""
    spec = describe(small_config("llama", NUM_VARIANTS), "llama", "small_models.py")
    plan = plan_of(method, checkpointing, gradient_accumulation_steps=4)
    formulas = formulas_of(plan, spec, plugins)

    for moment, num_bytes in moments_of(trace(job_of(plan, spec)).levels).items():
        assert formulas[moment] == pytest.approx(num_bytes, rel=TOLERANCE), moment


def test_few_tokens_are_multiplied_by_packed_weights_as_they_are(plugins):
    """bitsandbytes unpacks a weight for its product above 1,536 tokens only."""
    spec = describe(small_config("llama", NUM_VARIANTS), "llama", "small_models.py")
    plan = plan_of("QLoRA", True, seq_len=FEW_TOKENS)
    formulas = formulas_of(plan, spec, plugins)

    for moment, num_bytes in moments_of(trace(job_of(plan, spec)).levels).items():
        assert formulas[moment] == pytest.approx(num_bytes, rel=TOLERANCE), moment


@pytest.mark.parametrize("method", list(METHODS))
def test_a_method_is_nearest_to_itself(method):
    spec = describe(small_config("llama"), "llama", "small_models.py")
    plan = plan_of(method, False)

    assert method_of(plan, precision_of(plan, spec)) == method
