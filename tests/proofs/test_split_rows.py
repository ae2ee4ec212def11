"""A micro batch that is split trains the same where the loss is a mean over rows, and where it is not the remedy is only suggested."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from preflight.formulas.layers.row_averages import AVERAGES_ROWS
from preflight.hooks.remedy_micro_batch import preflight_remedies
from preflight.launch import LaunchPlan, TrainerFacts
from preflight.setting import Place, Setting

SCRIPT = Path(__file__).with_name("split_rows.py")
TRAINED = ("dpo", "ipo", "simpo", "reward", "orpo")
ROUNDING = 1e-4


@pytest.fixture(scope="module")
def distances(ranks, tmp_path_factory) -> dict[str, float]:
    printed = ranks.printed(SCRIPT, str(tmp_path_factory.mktemp("split")), *TRAINED, world=0)
    found: dict[str, float] = json.loads(printed.splitlines()[-1])
    return found


@pytest.mark.parametrize("objective", TRAINED)
def test_rows_may_be_split_where_the_loss_is_their_mean(distances, objective):
    assert (distances[objective] < ROUNDING) is (objective in AVERAGES_ROWS)


def safeties(objective: str | None, loss_type: list[str]) -> set[str]:
    facts = TrainerFacts(
        objective, {"loss_type": Setting(loss_type, Place("argv", "", "--loss_type"))}
    )
    plan = LaunchPlan(
        objective=objective, trainer="trl", micro_batch_size=4, seq_len=64, trainer_facts=facts
    )
    return {remedy.safety for remedy in preflight_remedies(plan)}


def test_what_mixes_rows_is_only_suggested():
    assert safeties("dpo", ["sigmoid"]) == safeties("sft", []) == {"equivalent"}
    assert safeties("dpo", ["sigmoid", "sft"]) == safeties("kto", ["kto"]) == {"changes_training"}
    assert safeties("orpo", []) == safeties("token_classification", []) == {"changes_training"}
