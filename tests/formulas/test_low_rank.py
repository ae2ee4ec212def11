"""GaLore's and APOLLO's states and steps, against what their packages keep and make (low_rank_steps.py)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from preflight import estimate
from preflight.errors import BadInput
from preflight.formulas.limits.bounds import dearest_of
from preflight.formulas.limits.left_out import with_left_out
from preflight.formulas.low_rank import (
    is_priced,
    low_rank_states,
    most_in_a_step,
    most_of_one,
)
from preflight.formulas.precision import precision_of
from preflight.formulas.sharding import held_tensors
from preflight.launch import LaunchPlan, LowRank
from preflight.memory import Moment
from preflight.models import describe
from preflight.unpriced_names import SVD_WORKSPACE

ROWS = [json.loads(line) for line in Path(__file__).with_name("low_rank.jsonl").read_text().splitlines()]  # fmt: skip
CONFIG = {
    "model_type": "llama", "hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 512, "tie_word_embeddings": False,
}  # fmt: skip
MODEL = describe(CONFIG, "tiny", "a test")
DTYPES = {"float32": "fp32", "bfloat16": "bf16"}


def plan_of(row, **more):
    targets = row["targets"] if isinstance(row["targets"], str) else tuple(row["targets"])
    return LaunchPlan(
        optimizer=row["optimizer"], load_dtype=DTYPES[row["dtype"]], trainer="transformers", micro_batch_size=1, seq_len=8,
        low_rank=LowRank(row["rank"], row["projection"], row["random"], targets), **more,
    )  # fmt: skip


def name_of(row):
    return " ".join(str(value) for value in list(row.values())[:-2])


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_states_and_steps_are_as_counted(row):
    plan = plan_of(row)
    precision = precision_of(plan, MODEL)
    held = [each for each in held_tensors(plan, MODEL) if each.trains]
    states = [low_rank_states(plan, MODEL, precision, each, each.tensor.num_params) for each in held]  # fmt: skip
    if row["optimizer"].endswith("_layerwise"):
        most = max(most_of_one(plan, MODEL, precision, each) for each in held)
    else:
        most = most_in_a_step(plan, MODEL, precision)

    assert is_priced(plan, MODEL)
    assert sum(n * each.count for n, each in zip(states, held, strict=True)) == row["states"]
    # a gradient of low rank is as large as the whole one where the rank is that of the matrix
    assert row["step"] <= most <= (1.1 if row["rank"] == 16 else 1.25) * row["step"]


LLAMA = {
    "q_proj": (4096, 4096), "k_proj": (1024, 4096), "v_proj": (1024, 4096), "o_proj": (4096, 4096),
    "gate_proj": (14336, 4096), "up_proj": (14336, 4096), "down_proj": (4096, 14336),
}  # fmt: skip
AROUND = 2 * 128_256 * 4096 + (2 * 32 + 1) * 4096
"""Elements of Llama 3.1 8B's embedding, head and norms."""


def llama(dtype, **more):
    plan = LaunchPlan(
        model="meta-llama/Llama-3.1-8B", load_dtype=dtype, optimizer="galore_adamw", micro_batch_size=1, seq_len=512,
        trainer="transformers", low_rank=LowRank(128, targets=("attn", "mlp")), activation_checkpointing="full",
    ).with_edits(more)  # fmt: skip
    return estimate(plan)


def states_of(found):
    return sum(term.num_bytes for term in found.terms if term.name.startswith("optimizer states"))


@pytest.mark.parametrize(("dtype", "size"), [("bf16", 2), ("fp32", 4)])
def test_in_fp32_a_projector_keeps_the_singular_vectors_that_it_is_a_slice_of(dtype, size):
    """`Vh[:rank, :]` is a view: 16 bits alone are copied out of it (galore_torch 1.0, get_orthogonal_matrix)."""
    moments = 2 * sum(128 * max(shape) for shape in LLAMA.values())
    kept = sum(min(shape) * (128 if size == 2 else min(shape)) for shape in LLAMA.values())

    assert states_of(llama(dtype)) == size * (2 * AROUND + 32 * (moments + kept))


def test_layers_that_step_in_backward_have_neither_gradients_nor_whole_states():
    """GaLore's paper trains 7B in 24 GiB so, with 8-bit states (Zhao et al. 2024, section 5.3); AdamW takes twice as much."""
    layerwise = {"optimizer": "galore_adamw_8bit_layerwise", "optimizer_in_backward": True}
    small = llama("bf16", **layerwise).allocated_peak_bytes
    whole = llama("bf16", optimizer="adamw_torch_fused", low_rank=None).allocated_peak_bytes

    assert small < 22 * 2**30 < 59 * 2**30 < whole


@pytest.mark.parametrize(
    ("more", "takes"),
    [
        ({}, None),
        ({"engine": "ddp", "world_size": 2}, None),
        ({"engine": "fsdp2", "world_size": 2, "shard_degree": 2}, "either"),
        ({"engine": "zero2", "world_size": 2, "shard_degree": 2}, "either"),
        ({"low_rank.targets": r"model\.layers\.[01]\..*"}, "less"),
        ({"low_rank.targets": r"model\.layers\.[01]\..*", "low_rank.rank": 33}, "either"),
        ({"low_rank.targets": r"model\.layers\.[0-9]+\..*"}, None),
        ({"low_rank.targets": ("no_such_module",)}, "less"),
        ({"low_rank": None}, "either"),
    ],
)
def test_states_of_single_layers_and_of_divided_matrices_are_named(more, takes):
    """Two moments of a 64 x 128 matrix of rank 32 and a projector are no more than AdamW's two; of rank 33 they may be."""
    plan = plan_of({**ROWS[0], "dtype": "bfloat16"}, sequence_kind="fixed").with_edits(more)
    named = {n.unpriced: n.takes for n in with_left_out(plan, MODEL).notices}

    assert is_priced(plan, MODEL) is (takes is None)
    assert named.get("the states of galore_adamw") == takes
    assert named[SVD_WORKSPACE] == "more"


def test_fsdp_shards_neither_projectors_nor_all_moments():
    """Run on two gloo ranks with torch 2.13: each rank has projectors whole, which AdamW's shards fall below."""
    plan = plan_of(ROWS[0], engine="fsdp2", world_size=64, shard_degree=64)

    assert dearest_of(with_left_out(plan, MODEL), MODEL, {}) is None


def test_a_step_that_is_not_priced_is_bounded_with_all_it_makes():
    known = plan_of(ROWS[0])
    unknown = known.with_edits({"low_rank.targets": r"model\.layers\.[01]\..*"})
    least, most = (
        dearest_of(with_left_out(p, MODEL), MODEL, {}).terms[0].num_bytes for p in (known, unknown)
    )

    assert most >= least + ROWS[0]["step"]


@pytest.mark.parametrize("in_backward", [False, True])
def test_the_workspace_of_an_svd_is_bounded_where_it_is_taken(in_backward):
    plan = plan_of(ROWS[0], optimizer_in_backward=in_backward)
    (term,) = dearest_of(with_left_out(plan, MODEL), MODEL, {}).terms

    assert term.num_bytes == 4 * (128 * 352 + 8 * 128**2)
    assert (Moment.OPTIMIZER_STEP in term.moments) is not in_backward
    at_random = plan.with_edits({"optimizer": "apollo_adamw", "low_rank.is_random": True})
    assert dearest_of(with_left_out(at_random, MODEL), MODEL, {}) is None


@pytest.mark.parametrize(
    "edits", [{"rank": 0}, {"projection": "up"}, {"targets": ("(",)}, {"targets": ("(.*a)*",)}]
)
def test_what_no_projection_can_be_is_refused(edits):
    with pytest.raises(BadInput, match=f"low_rank.{next(iter(edits))}"):
        LaunchPlan(low_rank=LowRank()).with_edits({f"low_rank.{k}": v for k, v in edits.items()})
