"""Families and their coefficients: who has a file, and whether the odd ones hold against traces."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from preflight.families import describe, lays_out
from preflight.formula_table import compare
from preflight.launch import LaunchPlan
from preflight.layer_coefficients import family_costs, file_of
from preflight.plugins import load_plugins
from preflight.sharding import held_tensors
from preflight.trace.small_models import SMALL_MODELS, small_config

REGISTRY = Path(__file__).parents[2] / "hooks" / "data" / "models.tsv"
NO_LAYOUT = {
    "gemma3n_text", "gemma4_text", "qwen3_5_text", "qwen3_5_moe_text", "qwen3_next",
    "bert", "modernbert", "roberta", "t5", "vit", "whisper",
}  # fmt: skip
"""Decoders whose layers share keys, take an input each, or keep a recurrent state, and models that are no decoders:
counted, not laid out, so that their estimate is `unknown` and `preflight trace` is what answers."""

ODD = ("phimoe", "gpt_oss", "gpt_oss_flash", "gemma2_flash", "glm4_moe", "qwen2_5_vl_text")
"""Routers, sinks, capped scores, biases of experts, a router in fp32, a decoder behind a tower."""
LATENT = ("deepseek_v2", "deepseek_v32", "glm4_moe_lite")


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    return load_plugins(str(tmp_path_factory.mktemp("here")))


def registered():
    with REGISTRY.open(encoding="utf-8", newline="") as file:
        for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            if not row[0].startswith("#"):
                yield row[0], json.loads(row[6]), int(row[2])


def test_every_decoder_of_the_registry_has_coefficients_or_no_layout():
    without = set()
    for name, config, num_params in registered():
        model = describe(config, name, "models.tsv", num_params)
        if not lays_out(config) and not model.layers:
            without.add(model.model_type)
        else:
            assert family_costs(model.model_type) is not None, model.model_type

    assert without == NO_LAYOUT


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("model_type", [*ODD, *LATENT])
def test_formulas_are_the_trace(plugins, model_type, checkpointing):
    """Full training in bf16: 0.1 % for plain decoder layers, 1 % for latent attention."""
    tolerance = 0.01 if model_type in LATENT else 0.001
    for compared in compare(model_type, "full", checkpointing, plugins):
        assert abs(compared.error) <= tolerance, compared


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
