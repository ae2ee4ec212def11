"""Adapters on each of a layer's experts take no more than is said, by torchtune's own module on a CPU."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from preflight.errors import Problem
from preflight.formulas.adapters.grouped_experts import on_experts_at_most
from preflight.formulas.limits.bounds import ADDED, dearest_of
from preflight.launch import LaunchPlan
from preflight.models import describe
from preflight.models.registry import find_model
from preflight.plan_parts import Adapter, BaseQuantization
from preflight.unpriced_names import ON_EXPERTS

COUNTED = {
    "plain": ((128, 256, 4, 256, 1, 3419), (256, 1024, 16, 512, 1, 11784), (512, 512, 16, 1024, 1, 9355), (128, 512, 8, 512, 2, 10421), (320, 512, 16, 4096, 1, 7483)),
    "grouped": ((128, 256, 4, 256, 1, 4901), (256, 1024, 16, 512, 1, 15832), (512, 512, 16, 1024, 1, 14259), (128, 512, 8, 512, 2, 13219), (320, 512, 16, 4096, 1, 10266)),
}  # fmt: skip
"""Products -> sizes of a layer, tokens, experts of each, and bytes a token at the peak of forward or backward, less what
gradients of the adapters are: MoE of LoRAGroupedExperts (modules/moe, torchtune 0.7.0), torch 2.13."""


def terms_of(hidden: int, inner: int, experts: int, tokens: int, top: int) -> dict[str, Any]:
    sizes = {
        "model_type": "mixtral", "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": 2,
        "num_local_experts": experts, "num_experts_per_tok": top, "num_attention_heads": 4, "num_key_value_heads": 4,
        "vocab_size": 128,
    }  # fmt: skip
    plan = LaunchPlan(
        engine="fsdp2",
        world_size=2,
        shard_degree=2,
        micro_batch_size=1,
        seq_len=tokens,
        activation_checkpointing="full",
        adapter=Adapter(rank=8),
    )
    terms = on_experts_at_most(plan, describe(sizes, "small", "here"))
    return {term.name: term.num_bytes for term in terms}


@pytest.mark.parametrize("products", COUNTED)
def test_rows_of_experts_take_no_more(products):
    for *sizes, counted in COUNTED[products]:
        rows = terms_of(*sizes)["rows of experts, at most"]
        assert counted * sizes[3] <= rows <= 3 * counted * sizes[3]


def test_every_expert_has_three_pairs():
    held = terms_of(128, 256, 4, 256, 1)["adapters on experts, at most"]

    assert held == 16 * 2 * (4 * 8 * 3 * (128 + 256)) // 2


@pytest.mark.parametrize(("packed", "bounded"), [(False, {ON_EXPERTS}), (True, None)])
def test_they_are_bounded_beside_a_base_that_is_not_packed(packed, bounded):
    entry = find_model("meta-llama/Llama-4-Scout-17B-16E")
    model = describe(entry.config, entry.id, "registry", entry.num_params)
    plan = LaunchPlan(
        engine="fsdp2",
        world_size=8,
        shard_degree=8,
        seq_len=4096,
        adapter=Adapter(rank=16),
        base_quantization=BaseQuantization("nf4") if packed else None,
        notices=(Problem.left_out("adapters", "scout.yaml:9", ON_EXPERTS, "more"),),
    )
    dearest = dearest_of(plan, model, {})

    assert (None if dearest is None else dearest.names) == bounded


@pytest.mark.parametrize("path", ADDED.values())
def test_what_the_table_of_bounds_names_is_there(path):
    """They are imported where a launch has them, and no type checker looks."""
    module, _, function = path.partition(":")
    assert callable(getattr(import_module(f"preflight.formulas.{module}"), function))
