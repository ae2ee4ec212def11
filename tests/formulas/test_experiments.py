"""TRL's experimental trainers beside the estimate: pairs that a policy generates, BCO and process rewards; rows of experiment_steps.py."""

from __future__ import annotations

import pytest
from experiment_steps import CONFIG, case_of
from recorded import recorded
from some_plugins import plugins_of
from test_rollouts import parts_of

from preflight.formulas.layers.heads import with_head
from preflight.formulas.limits.unpriced import unpriced_objective
from preflight.judge import estimate_memory
from preflight.launch import Adapter, Generation, LaunchPlan
from preflight.models import describe

ROWS = recorded("experiments.jsonl")
TOLERANCE = 0.02


def plan_of(row: dict) -> LaunchPlan:
    case = case_of(row["name"])
    generation = Generation(
        max_completion_len=case["completion"], num_generations=2, steps_per_generation=1
    )
    rank = case.get("rank")
    return LaunchPlan(
        objective=row["objective"], trainer="trl", load_dtype=case["load"],
        mixed_precision="bf16" if case.get("autocast") else "no", micro_batch_size=case["micro"],
        seq_len=case["prompt"] + case["completion"], attention="sdpa", sequence_kind="fixed", loss="full_logits",
        activation_checkpointing="full" if case.get("checkpointing") else "none", checkpointing_reentrant=False,
        adapter=Adapter(rank=rank, targets=("q_proj", "v_proj")) if rank else None,
        generation=generation if row["objective"] == "online_dpo" else None,
        versions={"trl": row["trl"], "transformers": row["transformers"], "torch": "2.13.0"},
    )  # fmt: skip


def predicted(plan: LaunchPlan) -> dict[str, int]:
    plugins = plugins_of("memory_")
    model = with_head(plan, describe({**CONFIG, "dtype": "bfloat16"}, "t", "t"))
    return parts_of(estimate_memory(plan, model, None, plugins))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['objective']}, {row['name']}")
def test_the_worst_moment_of_an_experiment_is_priced(row):
    plan = plan_of(row)

    assert not unpriced_objective(plan)
    assert max(predicted(plan).values()) == pytest.approx(max(row["peaks"].values()), rel=TOLERANCE)
