"""The longest row of a model is where the library's own model stops: one token more is an error in its first forward."""

from __future__ import annotations

from typing import Any

import pytest

from preflight.derive.layouts.small_models import small_config
from preflight.formulas.limits.row_limits import longest_row, with_open_length
from preflight.launch import Generation, LaunchPlan
from preflight.models import describe

POSITIONS = 24
KEYS = ("max_position_embeddings", "n_positions", "max_seq_len")
BOUNDED = ("gpt2", "gpt_bigcode", "gptj", "codegen", "gpt_neo", "opt", "mpt")
UNBOUNDED = ("llama", "qwen3", "gemma2", "phi", "gpt_neox", "falcon", "bloom", "persimmon")


def config_of(model_type: str) -> dict[str, Any]:
    config = small_config(model_type)
    named = [key for key in KEYS if key in config] or ["max_position_embeddings"]
    return {**config, **dict.fromkeys(named, POSITIONS)}


def model_of(model_type: str):
    return describe(config_of(model_type), "small", "here")


def takes(model_type: str, num_tokens: int) -> bool:
    """Tell whether transformers' own model runs a row of so many tokens."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = config_of(model_type)
    made = AutoConfig.for_model(config.pop("model_type"), **config)
    model = AutoModelForCausalLM.from_config(made).eval()
    try:
        with torch.no_grad():
            model(input_ids=torch.ones((1, num_tokens), dtype=torch.long))
    except (IndexError, RuntimeError):
        return False
    return True


@pytest.mark.parametrize("model_type", BOUNDED)
def test_a_table_of_positions_ends_where_the_model_stops(model_type):
    longest = longest_row(LaunchPlan(sequence_kind="padded"), model_of(model_type))

    assert longest == POSITIONS
    assert takes(model_type, longest)
    assert not takes(model_type, longest + 1)


@pytest.mark.parametrize("model_type", UNBOUNDED)
def test_positions_that_are_made_for_what_comes_bound_nothing(model_type):
    assert longest_row(LaunchPlan(sequence_kind="padded"), model_of(model_type)) is None
    assert takes(model_type, POSITIONS + 1)


def test_what_counts_positions_anew_bounds_nothing():
    packed = LaunchPlan(sequence_kind="packed")

    assert longest_row(packed, model_of("gpt2")) is None


def test_padding_that_nobody_knows_may_be_longer_than_positions_that_skip_it():
    unknown = LaunchPlan(sequence_kind=None)

    assert longest_row(unknown, model_of("gpt2")) == POSITIONS
    assert longest_row(unknown, model_of("opt")) is None


@pytest.mark.parametrize("more", [{"seq_len": 8}, {"generation": Generation()}])
def test_a_length_that_is_said_or_one_of_two_stays_as_it_is(more):
    plan = LaunchPlan(sequence_kind="padded", **more)

    assert with_open_length(plan, model_of("gpt2")) is plan
