"""Pairs of answers in older releases of TRL: rows that their own trainers were measured with, beside the estimate.

older_steps.py makes a row again, in an environment with its releases. Attention in fp32 is a GPU's here and was a CPU's
there, so that no row is without 16 bits.
"""

from __future__ import annotations

import pytest
from older_steps import CASES, CONFIG
from recorded import recorded
from test_objectives import PURE_SIMPO, TOLERANCE, predicted

from preflight.formulas.limits.unpriced import unpriced_objective
from preflight.formulas.objectives.log_probabilities import scoring_of
from preflight.launch import Adapter, LaunchPlan
from preflight.launch_facts import TrainerFacts
from preflight.versions.boundary import release
from preflight.versions.transformers import READS_GROUPED_KEYS

ROWS = recorded("older_objectives.jsonl")
OLDER_LAYERS = 0.035
"""Of layers whose coefficients were traced on newer releases of transformers, the worst of Llama before 4.54."""


FRAMEWORKS = {
    "llamafactory": ("LLaMA-Factory", "llamafactory"),
    "ms_swift": ("ms-swift", "swift"),
}
"""Name in a row's versions -> who measured it, and its launcher."""


def label_of(row: dict) -> str:
    whose = next((FRAMEWORKS[name][0] for name in FRAMEWORKS if name in row), f"TRL {row['trl']}")
    return f"{row['objective']}, {row['name']}, {whose}"


def plan_of(row: dict) -> LaunchPlan:
    case = {"micro": 2, "config": CONFIG, **CASES[row["name"]]}
    frameworks = {name: row[name] for name in FRAMEWORKS if name in row}
    launchers = [FRAMEWORKS[name][1] for name in frameworks]
    return LaunchPlan(
        objective=row["objective"],
        trainer="transformers" if launchers else "trl",
        launcher=launchers[0] if launchers else None,
        versions={
            "trl": row["trl"],
            "transformers": row["transformers"],
            "torch": "2.13.0",
            **frameworks,
        },
        load_dtype=case["load"],
        mixed_precision="bf16" if case.get("autocast") else "no",
        micro_batch_size=case["micro"],
        seq_len=case.get("length", 256) if case.get("free") else row["shape"][1],
        attention="sdpa",
        sequence_kind="packed" if case.get("free") else "fixed",
        activation_checkpointing="full" if case.get("checkpointing") else "none",
        checkpointing_reentrant=False,
        loss="full_logits",
        optimizer="adamw_torch",
        optimizer_kernel="for_loop",
        adapter=Adapter(rank=case["rank"], targets=("q_proj", "v_proj"))
        if "rank" in case
        else None,
        reference_model="none" if case.get("computed") else None,
        trainer_facts=PURE_SIMPO
        if row["objective"] == "simpo" and not launchers
        else TrainerFacts(),
    )


@pytest.mark.parametrize("row", ROWS, ids=label_of)
def test_the_worst_moment_of_an_older_release_is_priced(row):
    plan, case = plan_of(row), {"config": CONFIG, **CASES[row["name"]]}
    counted = max(row["peaks"].values())
    is_newer = READS_GROUPED_KEYS.holds_in(plan.versions)

    assert not unpriced_objective(plan)
    assert max(predicted(plan, case["config"]).values()) == pytest.approx(
        counted, rel=TOLERANCE if is_newer else OLDER_LAYERS
    )


def test_every_way_to_score_pairs_was_measured():
    measured = {scoring_of(plan_of(row)) for row in ROWS}
    releases = [f"0.{n}" for n in range(7, 30)] + [f"1.{n}" for n in range(15)]
    ways = {scoring_of(plan_of({**ROWS[0], "objective": "dpo", "trl": r})) for r in releases}

    assert ways <= measured
    assert min(release(row["trl"]) for row in ROWS) < release("0.9")
