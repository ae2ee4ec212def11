"""Steps of OLMo-core's, counted, are within what its launches are said to take at least and at most; olmo_core_steps.py makes
the rows."""

from __future__ import annotations

from functools import cache

import pytest
from olmo_core_steps import case_of
from recorded import recorded
from some_plugins import plugins_of

from preflight.formulas.layers.layer_costs import layer_costs
from preflight.formulas.limits.doubts import beside, counted_among
from preflight.formulas.olmo_core import (
    OF_LAYER,
    is_counted,
    olmo_core_at_most,
    parts_at_most,
    z_loss_at_most,
)
from preflight.formulas.precision import precision_of
from preflight.judge import estimate_memory
from preflight.launch import LaunchPlan
from preflight.memory import STEP_MOMENTS, Level, MemoryEstimate, MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.models import describe
from preflight.unpriced_names import OLMO_CORE
from preflight.values import replace

ROWS = recorded("olmo_core.jsonl")
BLOCKS = [row for row in ROWS if "block" in row]


def plan_of(case: dict) -> LaunchPlan:
    return LaunchPlan(
        trainer="plain_loop", engine="single", load_dtype="bf16", mixed_precision="no", micro_batch_size=case["rows"],
        seq_len=case["length"], attention="flash_attention_2", sequence_kind="fixed", loss="full_logits",
        optimizer="adamw_torch", optimizer_kernel="for_loop", keeps_outputs=False,
        activation_checkpointing="full" if case["mode"] else "none",
        world_size=case["sharing"], sequence_parallel_degree=case["sharing"],
        versions={"transformers": "5.24.0", "torch": "2.13.0"},
    )  # fmt: skip


def model_of(case: dict) -> ModelSpec:
    head = {"head_dim": 64} if case["kind"] == "qwen3" else {}
    return describe({**case["sizes"], **head}, "small", "here")


@cache
def estimate_of(name: str) -> MemoryEstimate:
    plugins = plugins_of("memory_")
    case = case_of(name)
    return estimate_memory(plan_of(case), model_of(case), None, plugins)


def most_of(terms: tuple[MemoryTerm, ...]) -> int:
    live = [term for term in terms if term.level is Level.ALLOCATED]
    moments = (*STEP_MOMENTS, Moment.OPTIMIZER_STEP)
    return max(sum(t.num_bytes for t in live if m in t.moments) for m in moments)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_a_step_takes_no_more_than_its_bound_and_no_less_than_a_refusal_rests_on(row):
    case, counted = case_of(row["name"]), max(row["peaks"].values())
    plan, model, estimate = plan_of(case), model_of(case), estimate_of(row["name"])
    more = olmo_core_at_most(plan, model)
    if case["mode"] == "selected_modules":
        more += parts_at_most(plan, model)
    if case["sums"] is not None:
        more += z_loss_at_most(plan, model)
    least = beside(estimate, (OLMO_CORE,), counted_among((OLMO_CORE,), plan, model))

    assert (
        counted
        <= most_of((*estimate.terms, *more))
        < (1.4 if is_counted(plan, model) else 1.7) * counted
    )
    assert most_of(least) <= counted
    assert most_of(least) > 0.7 * counted or not is_counted(plan, model) or case["sums"]


def per_token(row: dict, what: str, kind: str) -> list[float]:
    """Return what was counted of a block, in bytes per token: of whole rows, and of rows of two documents."""
    case = case_of(row["name"])
    found = [value for name, value in row[what].items() if name.startswith(kind)]
    return [value / (case["rows"] * case["length"]) for value in found]


@pytest.mark.parametrize("row", BLOCKS, ids=lambda row: row["name"])
@pytest.mark.parametrize("kind", ["eager", "compiled"])
def test_a_block_keeps_what_is_estimated_with_its_bound(row, kind):
    case = case_of(row["name"])
    plan, model = replace(plan_of(case), torch_compile=kind == "compiled"), model_of(case)
    saved = layer_costs(plan, model, model.layers[0], precision_of(plan, model)).saved

    assert all(
        0.75 * saved <= counted <= saved + OF_LAYER * model.hidden_size
        for counted in per_token(row, "block", kind)
    )


@pytest.mark.parametrize("row", BLOCKS, ids=lambda row: row["name"])
@pytest.mark.parametrize("kind", ["eager", "compiled"])
def test_modules_that_are_checkpointed_one_by_one_keep_no_more_than_their_bound(row, kind):
    case = {**case_of(row["name"]), "mode": "selected_modules"}
    plan, model = replace(plan_of(case), torch_compile=kind == "compiled"), model_of(case)
    tokens = case["rows"] * case["length"]
    beside_input = sum(term.num_bytes for term in parts_at_most(plan, model)) / model.num_layers
    most = beside_input / tokens + 2 * model.hidden_size

    assert all(0.4 * most < counted <= most for counted in per_token(row, "parts", kind))


@pytest.mark.parametrize("row", BLOCKS, ids=lambda row: row["name"])
def test_a_compiled_head_keeps_its_logits_in_16_bits_alone(row):
    case = case_of(row["name"])
    tokens, words = case["rows"] * case["length"], case["sizes"]["vocab_size"]
    logits, row_bytes = 2 * tokens * words, 2 * tokens * case["sizes"]["hidden_size"]

    assert logits <= row["head"]["compiled"] <= logits + 3 * row_bytes
    assert row["head"]["eager"] >= 2 * logits
