"""Texts that FlagEmbedding and Tevatron compare and rank: steps of its own trainers that were measured, beside the estimate.

retriever_steps.py makes a row again, in an environment with that release and the transformers of its day.
"""

from __future__ import annotations

import pytest
from recorded import recorded
from retriever_steps import case_of
from test_objectives import predicted

from preflight.formulas.objective import num_sequences
from preflight.formulas.texts import EMBEDDERS, RERANKERS, TEVATRON
from preflight.launch import Adapter, LaunchPlan
from preflight.launch_facts import TrainerFacts
from preflight.setting import Place, Setting
from preflight.trainers.retrievers import LINEAR

ROWS = recorded("retriever_steps.jsonl")
TOLERANCE = 0.02


def plan_of(row: dict) -> LaunchPlan:
    case = case_of(row["name"])
    is_reranker = case["module"] == "reranker"
    said = Setting(case["query"], Place("argv", "", "--query_max_len"))
    return LaunchPlan(
        objective="sequence_classification" if is_reranker else "embedding",
        trainer="transformers",
        trainer_facts=TrainerFacts(
            arguments={"query_max_len": said},
            module=TEVATRON if "tevatron" in row else (RERANKERS if is_reranker else EMBEDDERS)[0],
        ),
        versions={"transformers": row["transformers"], "torch": "2.13.0"},
        load_dtype=case["load"],
        mixed_precision="bf16" if case.get("autocast") else "no",
        micro_batch_size=case["micro"],
        texts_per_row=case["group"] + (not is_reranker),
        seq_len=case["length"],
        attention="sdpa",
        sequence_kind="fixed",
        activation_checkpointing="full" if case.get("checkpointing") else "none",
        checkpointing_reentrant=False,
        optimizer="adamw_torch",
        optimizer_kernel="for_loop",
        adapter=Adapter(rank=case["rank"], targets=LINEAR) if "rank" in case else None,
    )


@pytest.mark.parametrize(
    "row", ROWS, ids=lambda row: f"{row['name']}, {row.get('FlagEmbedding', 'Tevatron')}"
)
def test_the_worst_moment_of_a_step_is_priced(row):
    plan = plan_of(row)

    assert max(predicted(plan, case_of(row["name"])["config"]).values()) == pytest.approx(
        max(row["peaks"].values()), rel=TOLERANCE
    )
    assert num_sequences(plan) == row["shapes"][-1][0]
