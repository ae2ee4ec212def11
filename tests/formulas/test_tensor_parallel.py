"""What tensor parallelism leaves on a rank, counted on two real ranks over gloo."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import pytest
from tensor_parallel_ranks import BATCH, LENGTH

from preflight.formulas.layers.layer_costs import layer_costs
from preflight.formulas.layers.layer_pieces import stream_bytes
from preflight.formulas.precision import precision_of
from preflight.formulas.sharding import held_tensors, local_elements, wrap_units
from preflight.formulas.tensor_parallel import divided_costs, local_vocab
from preflight.launch import LaunchPlan
from preflight.models import describe
from preflight.plugins import load_plugins

RANKS = Path(__file__).with_name("tensor_parallel_ranks.py")
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "num_hidden_layers": 3,
    "vocab_size": 256,
    "tie_word_embeddings": False,
}
MODEL = describe({**SIZES, "model_type": "llama", "rms_norm_eps": 1e-6}, "tiny", "test")
LAYOUTS = ("torchtitan", "transformers")


def plan_of(layout: str, degree: int = 2, **more: Any) -> LaunchPlan:
    return LaunchPlan(
        trainer=layout,
        versions={"transformers": "5.20.0"},
        load_dtype="fp32",
        world_size=degree,
        tensor_parallel_degree=degree,
        micro_batch_size=BATCH,
        seq_len=LENGTH,
        attention="sdpa",
        sequence_kind="fixed",
        **more,
    )


@pytest.fixture(scope="module", params=LAYOUTS)
def counted(request, ranks) -> tuple[str, dict[str, Any]]:
    printed = ranks.printed(RANKS, request.param, json.dumps(SIZES), world=2)
    told = next(line for line in printed.splitlines() if line.startswith("{"))
    return request.param, json.loads(told)


def test_a_layer_saves_what_is_counted_to_the_byte(counted):
    layout, found = counted
    plan = plan_of(layout)
    precision = precision_of(plan, MODEL)
    (unit,) = MODEL.layers
    tokens = BATCH * LENGTH
    whole = replace(
        layer_costs(plan_of(layout, 1), MODEL, unit, precision), saved=found["whole"] // tokens
    )
    width = precision.bytes_of("compute") * MODEL.hidden_size
    stream = stream_bytes(plan, MODEL, unit, precision)

    assert found["saved"] == tokens * divided_costs(plan, whole, stream, width).saved


def test_parameters_are_divided_as_they_are_counted(counted):
    layout, found = counted
    plan = plan_of(layout)
    sizes = [
        prod(shape)
        for name, shape in found["shapes"].items()
        if "layers.1" not in name and "layers.2" not in name
    ]

    assert sorted(local_elements(plan, held) for held in held_tensors(plan, MODEL)) == sorted(sizes)


def test_a_model_is_loaded_as_it_is_divided(counted):
    layout, found = counted
    (term,) = (
        each
        for owner, each in load_plugins().collect(
            "preflight_memory_terms", plan=plan_of(layout, engine="ddp"), model=MODEL
        )
        if each.name == "loading the model"
    )

    assert term.num_bytes == 4 * sum(prod(shape) for shape in found["shapes"].values())


def test_the_vocabulary_is_divided_where_the_loss_is(counted):
    layout, found = counted

    assert found["logits"] == [BATCH, LENGTH, local_vocab(plan_of(layout), SIZES["vocab_size"])]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_more_ranks_never_keep_or_gather_more(layout):
    precision = precision_of(plan_of(layout), MODEL)
    (unit,) = MODEL.layers
    costs = [layer_costs(plan_of(layout, n), MODEL, unit, precision) for n in (1, 2, 4)]
    units = [wrap_units(plan_of(layout, n, engine="fsdp2"), MODEL) for n in (1, 2, 4)]

    for one, more in pairwise(costs):
        assert more.saved < one.saved
        assert more.residual <= one.residual
        assert more.backward_transient <= one.backward_transient
        assert more.attention_backward <= one.attention_backward
    assert units[0].layer > units[1].layer > units[2].layer
