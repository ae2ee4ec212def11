"""Losses against a teacher of another shape, counted, beside the most that they are said to take.

TRL's GKD in rows of teacher_steps.py, torchtune's knowledge distillation in those of tune_teacher_steps.py.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import tune_teacher_steps as tune_steps
from some_plugins import plugins_of
from teacher_steps import case_of, configs_of
from test_rollouts import parts_of

from preflight.formulas.limits.unpriced import unpriced_objective
from preflight.formulas.objectives.teachers import taught_at_most
from preflight.formulas.objectives.tune_teachers import taught_by_torchtune
from preflight.judge import estimate_memory
from preflight.launch import Adapter, LaunchPlan
from preflight.launch_facts import TrainerFacts
from preflight.models import describe
from preflight.peaks import estimate_peaks
from preflight.setting import Place, Setting
from preflight.unpriced_names import TEACHER


def rows_of(name: str) -> list[dict]:
    return [json.loads(line) for line in Path(__file__).with_name(name).read_text().splitlines()]


ROWS, OF_TUNE = rows_of("teachers.jsonl"), rows_of("tune_teachers.jsonl")
HERE = Place("default", "", "here")
EXACT = ("fp32", "fp32, checkpointed", "fp32, LoRA", "fp32, more words")
"""Cases in which nothing of the bound is larger than it has to be but what is gone before the loss."""


def plan_of(row: dict) -> LaunchPlan:
    case = case_of(row["name"])
    rank = case.get("rank")
    return LaunchPlan(
        objective="gkd", trainer="trl", reference_model="teacher", load_dtype=case["load"],
        mixed_precision="bf16" if case.get("autocast") else "no", micro_batch_size=case["micro"],
        seq_len=case["prompt"] + case["completion"], attention="sdpa", sequence_kind="fixed", loss="full_logits",
        activation_checkpointing="full" if case.get("checkpointing") else "none", checkpointing_reentrant=False,
        gradient_accumulation_steps=case.get("accumulation", 1),
        adapter=Adapter(rank=rank, targets=("q_proj", "v_proj")) if rank else None,
        versions={"trl": row["trl"], "transformers": row["transformers"], "torch": "2.13.0"},
    )  # fmt: skip


def models_of(row: dict) -> list:
    return [describe({**each, "dtype": "bfloat16"}, "t", "t") for each in configs_of(case_of(row["name"]))]  # fmt: skip


def predicted(plan: LaunchPlan, row: dict) -> dict[str, int]:
    """Return the most that is said to be alive in each part of a step."""
    plugins = plugins_of("memory_")
    model, teacher = models_of(row)
    terms = estimate_memory(plan, model, None, plugins).terms
    return parts_of(estimate_peaks((*terms, *taught_at_most(plan, model, teacher)), ()))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_no_step_with_a_teacher_takes_more_than_its_bound(row):
    plan = plan_of(row)
    counted, most = max(row["peaks"].values()), max(predicted(plan, row).values())

    assert unpriced_objective(plan) == TEACHER
    assert counted <= most < counted * (1.04 if row["name"] in EXACT else 1.5)


@pytest.mark.parametrize("edit", [{"engine": "zero3"}, {"engine": "fsdp2"}, {"loss": "fused_linear"}, {"seq_len": None}])  # fmt: skip
def test_nothing_is_said_of_what_was_not_counted(edit):
    row = ROWS[0]

    assert taught_at_most(replace(plan_of(row), **edit), *models_of(row)) == ()


def test_an_evaluation_of_more_rows_has_a_bound_of_its_own():
    row = ROWS[0]
    model, teacher = models_of(row)
    plan = replace(plan_of(row), eval_micro_batch_size=8)
    by_name = {term.name: term.num_bytes for term in taught_at_most(plan, model, teacher)}

    assert by_name["evaluation with a teacher"] > 4 * 17 * 8 * plan.seq_len * model.vocab_size


def tunes_plan_of(row: dict) -> LaunchPlan:
    case = tune_steps.case_of(row["name"])
    return LaunchPlan(
        objective="distillation", trainer="torchtune", reference_model="teacher", load_dtype=case["dtype"],
        mixed_precision="no", micro_batch_size=case["rows"], seq_len=case["length"], attention="sdpa",
        sequence_kind="padded", loss=case["loss"], activation_checkpointing="full" if case["checkpointing"] else "none",
        adapter=Adapter(rank=case["rank"], targets=("q_proj", "v_proj"), dtype=case["dtype"]),
        versions={"torchtune": row["torchtune"], "torch": "2.13.0"},
        trainer_facts=TrainerFacts(arguments={
            "num_output_chunks": Setting(case["chunks"], HERE), "kd_loss": Setting(tune_steps.divergence_of(case), HERE),
        }),
    )  # fmt: skip


def tunes_models_of(row: dict) -> list:
    return [describe(each, "t", "t") for each in tune_steps.configs_of(tune_steps.case_of(row["name"]))]  # fmt: skip


@pytest.mark.parametrize("row", OF_TUNE, ids=lambda row: row["name"])
def test_no_step_of_torchtunes_takes_more_than_its_bound(row):
    plan, plugins = tunes_plan_of(row), plugins_of("memory_")  # fmt: skip
    model, teacher = tunes_models_of(row)
    terms = taught_by_torchtune(plan, model, teacher)
    # the table of positions is for rows that nobody counted here
    of_step = [term for term in terms if term.name != "positions of a teacher"]
    student = estimate_memory(plan, model, None, plugins).terms
    peaks = parts_of(estimate_peaks((*student, *of_step), ()))

    assert unpriced_objective(plan) == TEACHER
    counted = max(row["peaks"].values())

    assert 0.995 * counted < peaks["update"] < 1.07 * counted


@pytest.mark.parametrize("edit", [{"torch_compile": True}, {"loss": "chunked_linear"}, {"loss": "full_logits"}, {"seq_len": None}])  # fmt: skip
def test_nothing_is_said_of_a_divergence_that_was_not_counted(edit):
    row = OF_TUNE[0]

    assert taught_by_torchtune(replace(tunes_plan_of(row), **edit), *tunes_models_of(row)) == ()


def test_a_teachers_shards_are_all_of_it_and_its_root_stays():
    row = OF_TUNE[0]
    model, teacher = tunes_models_of(row)
    plan = replace(tunes_plan_of(row), engine="fsdp2", world_size=4, shard_degree=4, reshard_after_forward=True)  # fmt: skip
    by_name = {term.name: term.num_bytes for term in taught_by_torchtune(plan, model, teacher)}

    assert 4 * by_name["parameters of a teacher"] == 2 * teacher.num_params
    assert by_name["gathered of a teacher"] >= 2 * 2 * 8192 * 512
