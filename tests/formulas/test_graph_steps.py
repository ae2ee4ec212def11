"""Steps of torchtitan's graph trainer take no more than its launches are said to; graph_steps.py makes the rows."""

from __future__ import annotations

import pytest
from graph_cases import case_of
from recorded import recorded
from some_plugins import plugins_of

from preflight.formulas.graph_steps import graph_step_at_most
from preflight.formulas.sent_tokens import sent_at_most
from preflight.judge import estimate_memory
from preflight.launch import LaunchPlan
from preflight.memory import STEP_MOMENTS, Level, MemoryTerm
from preflight.models import describe

ROWS = recorded("graph_steps.jsonl")
MODES = {"default": "selective_op", "eager": "selective_op", "full": "full"}
RESHARD = {"default": "default", "never": False}
STATES = 4
"""Copies of a parameter's size that wait for the second step: itself, its gradient and two states."""


def plan_of(case: dict) -> LaunchPlan:
    return LaunchPlan(
        trainer="torchtitan", engine="fsdp2", world_size=case["shard"] * case["replicate"] * case["tensor"],
        shard_degree=case["shard"], replicate_degree=case["replicate"], tensor_parallel_degree=case["tensor"],
        expert_parallel_degree=case["experts"],
        reshard_after_forward=RESHARD[case["reshard"]], wrap_policy="transformer", load_dtype="fp32", master_dtype="fp32",
        mixed_precision="bf16", reduce_dtype="fp32", optimizer="adamw_torch_fused", zero_grad_set_to_none=False,
        micro_batch_size=case["rows"], seq_len=case["length"], sequence_kind="fixed", attention="sdpa",
        loss="chunked_linear", activation_checkpointing=MODES[case["policy"]],
        versions={"torchtitan": "0.3.0", "torch": "2.13.0", "transformers": "5.24.0"},
    )  # fmt: skip


def most_of(terms: tuple[MemoryTerm, ...]) -> int:
    live = [term for term in terms if term.level is Level.ALLOCATED]
    return max(sum(t.num_bytes for t in live if m in t.moments) for m in STEP_MOMENTS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_no_graph_takes_more_than_its_bound(row):
    case = case_of(row["name"])
    model, plan = describe(case["sizes"], "small", "here"), plan_of(case)
    plugins = plugins_of("memory_")
    terms = estimate_memory(plan, model, None, plugins).terms
    sent = sent_at_most(plan, model) if case["to_one"] else []
    most = most_of((*terms, *graph_step_at_most(plan, model), *sent))
    counted = STATES * row["parameters"] + row["graph"]

    assert counted <= most < (2.1 if case["to_one"] else 1.6) * counted
