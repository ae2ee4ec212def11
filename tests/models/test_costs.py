"""Families and their coefficients: who has a file, and whether the odd ones hold against traces."""

from __future__ import annotations

import pytest

from preflight.derive.costs.formula_table import compare, ends_of_kinds, formulas_of, moments_of
from preflight.derive.layouts.small_models import small_config, small_launch
from preflight.derive.layouts.small_sizes import NUM_VARIANTS, SMALL_MODELS
from preflight.formulas.cost_tables import family_costs, file_of
from preflight.formulas.sharding import held_tensors
from preflight.launch import LaunchPlan
from preflight.models import describe
from preflight.models.families.groups import group_of
from preflight.models.families.library_defaults import family_table
from preflight.models.registry import all_models
from preflight.trace.job import job_of
from preflight.trace.run import trace

ODD = ("phimoe", "gpt_oss", "gpt_oss_flash", "gemma2_flash", "glm4_moe", "qwen2_5_vl_text")
"""Routers, sinks, capped scores, biases of experts, a router in fp32, a decoder behind a tower."""
DELTA = ("qwen3_next", "qwen3_5_text")
"""Layers that loop over chunks of a sequence: two of 256 tokens are four chunks each, coefficients are of three and five."""
LATENT = ("deepseek_v2", "deepseek_v32", "glm4_moe_lite")


def test_every_decoder_of_the_registry_has_coefficients_or_no_layout():
    """Decoders whose layers share keys or take an input each, and models that are no decoders, are counted alone:
    their estimate is `unknown`, and `preflight trace` is what answers."""
    for entry in all_models():
        model = describe(entry.config, entry.id, "", entry.num_params)
        has_layers = group_of(model.model_type) is not None

        if has_layers and family_table(model.model_type) is not None:
            continue  # a table may say the parameters alone, and not of every config of its type (PF129)
        assert bool(model.layers) is has_layers, entry.id
        costs = family_costs(model.facts.get("costs", model.model_type))
        assert (costs is not None) is has_layers, model.model_type


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("model_type", [*ODD, *DELTA, *LATENT])
def test_formulas_are_the_trace(plugins, model_type, checkpointing):
    """Full training in bf16: 0.1 % for plain decoder layers, 1 % for latent attention."""
    tolerance = 0.01 if model_type in LATENT else 0.001
    for compared in compare(model_type, "full", checkpointing, plugins):
        assert abs(compared.error) <= tolerance, compared


@pytest.mark.parametrize(
    ("model_type", "method"),
    [
        ("falcon", "QLoRA"),  # its own linear layers stay as they are
        ("gpt_neox", "QLoRA, prepared, autocast"),  # a packed layer's bias becomes narrow
        ("deepseek_v3", "LoRA, autocast"),  # dense layers come first and have more at their peak
        ("glm4_moe", "LoRA, autocast"),  # a dense layer comes first and has less at its peak
        ("bloom", "LoRA"),  # traced eagerly, its mask is among what was traced
        ("mpt", "LoRA"),  # slopes for as many positions as its config has
        ("nemotron_h", "LoRA, autocast"),  # mixers, experts and attention are layers of their own
    ],
)
def test_other_methods_of_odd_families_too(plugins, model_type, method):
    for compared in compare(model_type, method, True, plugins):
        assert abs(compared.error) <= 0.001, compared


@pytest.mark.parametrize("length", [1024, 1000])
def test_a_chunked_layer_holds_at_any_length(plugins, length):
    """Sixteen chunks; the last one padded where the length is no multiple of 64."""
    model = describe(small_config("qwen3_next", NUM_VARIANTS), "small", "here")
    plan = small_launch("qwen3_next", "full", False, seq_len=length, micro_batch_size=1)
    formulas = formulas_of(plan, model, plugins)
    traced = moments_of(trace(job_of(plan, model)).levels, ends_of_kinds(plan, model))

    for moment, num_bytes in traced.items():
        assert formulas[moment] == pytest.approx(num_bytes, rel=0.01), moment


def test_an_indexer_gets_no_gradients():
    model = describe(small_config("deepseek_v32"), "small", "here")
    held = list(held_tensors(LaunchPlan(), model))

    idle = {h.tensor.name for h in held if not h.trains}
    assert idle
    assert all(name.startswith("self_attn.indexer.") for name in idle)


@pytest.mark.parametrize("model_type", sorted(name for name in SMALL_MODELS if "_flash" in name))
def test_scores_are_kept_by_eager_attention_alone(model_type):
    family = model_type.removesuffix("_flash")
    model = describe(small_config(model_type), "small", "here")

    assert file_of(LaunchPlan(attention="flash_attention_2"), model) == model_type
    assert file_of(LaunchPlan(attention="eager"), model) == family
    assert file_of(LaunchPlan(), model) == family
    older = LaunchPlan(attention="sdpa", versions={"transformers": "5.20.0"})
    assert file_of(older, model) == (model_type if family == "gemma2" else family)
