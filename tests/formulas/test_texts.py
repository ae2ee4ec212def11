"""Texts that are compared: steps of sentence-transformers' own trainers that were measured, beside the estimate.

sentence_steps.py makes a row again, in an environment with that release and the transformers of its day.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from recorded import recorded
from sentence_steps import case_of
from test_objectives import predicted

from preflight.formulas.texts import forwards_of
from preflight.launch import Adapter, LaunchPlan

ROWS = recorded("sentence_steps.jsonl")
TOLERANCE = 0.021


def plan_of(row: dict) -> LaunchPlan:
    case = case_of(row["name"])
    return LaunchPlan(
        objective="embedding",
        trainer="transformers",
        versions={
            "sentence_transformers": row["sentence_transformers"],
            "transformers": row["transformers"],
            "torch": "2.13.0",
        },
        load_dtype=case["load"],
        mixed_precision="bf16" if case.get("autocast") else "no",
        micro_batch_size=case["micro"],
        texts_per_row=case["texts"],
        cached_rows=case.get("rows"),
        seq_len=case["length"],
        attention="sdpa",
        sequence_kind="fixed",
        activation_checkpointing="full" if case.get("checkpointing") else "none",
        checkpointing_reentrant=False,
        optimizer="adamw_torch",
        optimizer_kernel="for_loop",
        # transformers' own add_adapter makes an adapter as wide as its base (integrations/peft.py, 4.57.1)
        adapter=Adapter(rank=case["rank"], targets=("q_proj", "v_proj"), dtype="bf16")
        if "rank" in case
        else None,
    )


@pytest.mark.parametrize(
    "row", ROWS, ids=lambda row: f"{row['name']}, {row['sentence_transformers']}"
)
def test_the_worst_moment_of_a_step_is_priced(row):
    plan, case = plan_of(row), case_of(row["name"])

    assert max(predicted(plan, case["config"]).values()) == pytest.approx(
        max(row["peaks"].values()), rel=TOLERANCE
    )
    assert forwards_of(plan).rows == row["shape"][0]


@pytest.mark.parametrize("cached", [None, 8])
def test_a_text_more_takes_more_and_a_cached_loss_takes_little_of_it(cached):
    row = next(row for row in ROWS if row["name"] == "pairs")
    plans = [replace(plan_of(row), texts_per_row=n, cached_rows=cached) for n in (2, 3, 5)]
    two, three, five = (max(predicted(p, case_of("pairs")["config"]).values()) for p in plans)

    assert two < three < five
    assert (three - two < 0.01 * two) == (cached is not None)
