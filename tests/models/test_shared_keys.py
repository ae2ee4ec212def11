"""Layers that attend to keys of earlier ones: which they are, and what releases had that shared none."""

import pytest
from transformers import AutoConfig

from preflight import LaunchPlan
from preflight.formulas.layers.shared_keys import with_own_keys
from preflight.models import describe
from preflight.models.families.layer_rules import sharing_modes
from preflight.models.registry import find_model

SHARING = ("google/gemma-3n-E2B-it", "google/gemma-3n-E4B-it", "google/gemma-4-E2B-it")


def text_of(name):
    return find_model(name).config["text_config"]


@pytest.mark.parametrize("name", SHARING)
def test_layers_share_keys_as_transformers_says(name):
    values = {k: v for k, v in text_of(name).items() if k != "rope_parameters"}
    config = AutoConfig.for_model(values.pop("model_type"), **values)

    mine = sharing_modes(config.layer_types, config.num_kv_shared_layers, config.num_hidden_layers)

    assert mine == config.kv_sharing_modes


def test_what_nobody_reuses_is_not_handed_on():
    assert sharing_modes(["a", "b", "a"], 0, 3) == [None] * 3
    assert sharing_modes(["a", "b", "a"], None, 3) == [None] * 3


@pytest.mark.parametrize(
    ("name", "published"),
    [("google/gemma-3n-E2B-it", 5_439_438_272), ("google/gemma-3n-E4B-it", 7_849_978_192)],
)
def test_before_keys_were_shared_every_layer_had_its_own_and_the_count_is_the_published_one(
    name, published
):
    entry = find_model(name)
    model = describe(entry.config, name, "the registry", entry.num_params)

    before, after = (LaunchPlan(versions={"transformers": v}) for v in ("5.5.4", "5.6.0"))

    assert with_own_keys(before, model).num_params == published
    assert with_own_keys(after, model) is model
