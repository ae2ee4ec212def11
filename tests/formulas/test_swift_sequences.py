"""Steps of ms-swift's ranks that share sequences, counted by swift_sequence_steps.py, beside the most that they are said to take."""

from __future__ import annotations

from dataclasses import replace

import pytest
from recorded import recorded
from some_plugins import plugins_of
from swift_sequence_steps import case_of, config_of

from preflight.formulas.swift_sequences import CHUNK, sequences_at_most
from preflight.judge import estimate_memory
from preflight.launch import Adapter, LaunchCommand, LaunchPlan
from preflight.memory import Level, Moment
from preflight.models import describe

ROWS = recorded("swift_sequences.jsonl")
STEP = (
    Moment.FORWARD, Moment.LOSS_FORWARD, Moment.LOSS_BACKWARD, Moment.HEAD_BACKWARD, Moment.LAST_LAYER_BACKWARD,
    Moment.FIRST_LAYER_BACKWARD, Moment.EMBEDDING_BACKWARD,
)  # fmt: skip


def plan_of(case: dict) -> LaunchPlan:
    adapter = Adapter(rank=case["rank"], targets=("q_proj", "v_proj"), dtype="bf16")
    return LaunchPlan(
        launcher="swift", trainer="transformers", objective="sft", load_dtype="bf16", mixed_precision="no", engine="single",
        world_size=case["ranks"], sequence_parallel_degree=case["ranks"], micro_batch_size=case["rows"], seq_len=case["length"],
        attention="flash_attention_2", sequence_kind="packed", loss="full_logits", checkpointing_reentrant=False,
        activation_checkpointing="full" if case["checkpointed"] else "none", adapter=adapter if case["rank"] else None,
        versions={"transformers": "4.57.3", "torch": "2.13.0", "peft": "0.18.0"},
        command=LaunchCommand(("swift", "sft"), env={CHUNK: str(case["chunk"])}),
    )  # fmt: skip


def peaks(case: dict) -> tuple[int, int]:
    """Return the highest sums of a step, as it is estimated and with the most that it may take."""
    plugins = plugins_of("memory_")
    plan, model = plan_of(case), describe(config_of(case), "t", "t")
    terms = [t for t in estimate_memory(plan, model, None, plugins).terms if t.level is Level.ALLOCATED]  # fmt: skip
    terms = [t for t in terms if "optimizer" not in t.name]
    most = [*terms, *sequences_at_most(plan, model)]

    def highest(of: list) -> int:
        return max(sum(t.num_bytes for t in of if moment in t.moments) for moment in STEP)

    return highest(terms), highest(most)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_no_step_of_ranks_that_share_sequences_takes_more_than_its_bound(row):
    estimated, most = peaks(case_of(row["name"]))
    counted = max(row["peaks"].values())

    assert 0.9 * estimated < counted <= most < 1.35 * counted


@pytest.mark.parametrize("edit", [{"objective": "dpo"}, {"sequence_parallel_degree": 8}, {"torch_compile": True}, {"seq_len": None}, {"launcher": "accelerate"}])  # fmt: skip
def test_nothing_is_said_of_sequences_that_are_shared_otherwise(edit):
    case = case_of("whole")
    model = describe(config_of(case), "t", "t")

    assert sequences_at_most(replace(plan_of(case), **edit), model) == []
