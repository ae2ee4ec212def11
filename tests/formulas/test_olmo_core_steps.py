"""Steps of OLMo-core's, counted, are within the most that its launches are said to take; olmo_core_steps.py makes the rows."""

from __future__ import annotations

import pytest
from olmo_core_steps import case_of
from recorded import recorded

from preflight.builtin_hooks import BUILTIN_HOOKS
from preflight.formulas.olmo_core import olmo_core_at_most
from preflight.judge import estimate_memory
from preflight.launch import LaunchPlan
from preflight.memory import STEP_MOMENTS, Level, MemoryTerm, Moment
from preflight.models import describe
from preflight.plugins import load_plugins

ROWS = recorded("olmo_core.jsonl")


def plan_of(case: dict) -> LaunchPlan:
    return LaunchPlan(
        trainer="plain_loop", engine="single", load_dtype="bf16", mixed_precision="no", micro_batch_size=case["rows"],
        seq_len=case["length"], attention="sdpa", sequence_kind="fixed", loss="full_logits", optimizer="adamw_torch",
        optimizer_kernel="for_loop", activation_checkpointing="full" if case["mode"] else "none",
        versions={"transformers": "5.24.0", "torch": "2.13.0"},
    )  # fmt: skip


def most_of(terms: tuple[MemoryTerm, ...]) -> int:
    live = [term for term in terms if term.level is Level.ALLOCATED]
    moments = (*STEP_MOMENTS, Moment.OPTIMIZER_STEP)
    return max(sum(t.num_bytes for t in live if m in t.moments) for m in moments)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_no_step_takes_more_than_its_bound(row):
    case = case_of(row["name"])
    head = {"head_dim": 64} if case["kind"] == "qwen3" else {}
    model = describe({**case["sizes"], **head}, "small", "here")
    plan = plan_of(case)
    plugins = load_plugins(builtins=[h for h in BUILTIN_HOOKS if h.startswith("memory_")])
    terms = estimate_memory(plan, model, None, plugins).terms
    most, counted = most_of((*terms, *olmo_core_at_most(plan, model))), max(row["peaks"].values())

    assert counted <= most < 1.4 * counted


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_a_compiled_block_keeps_less(row):
    assert row["block"]["compiled"] < 0.8 * row["block"]["eager"]
