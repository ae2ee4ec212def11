"""A remembered function answers as the function does, for values that are the very same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from preflight.formulas.adaptations import nearest_adaptations
from preflight.formulas.adapters import adapter_tensors
from preflight.formulas.sharding import held_tensors
from preflight.launch import Adapter, LaunchPlan
from preflight.plugins import load_plugins
from preflight.remembered import MOST, remembered


def test_the_same_values_are_asked_about_once_and_equal_ones_again():
    asked = []

    @remembered
    def ranks(plan: LaunchPlan, factor: int) -> int:
        asked.append(plan)
        return plan.world_size * factor

    plan = LaunchPlan(world_size=4)
    same = ranks(plan, 2), ranks(plan, 2), ranks(replace(plan), 2), ranks(plan, 3)

    assert same == (8, 8, 8, 12)
    assert len(asked) == 3


def test_a_plan_that_is_gone_is_not_taken_for_a_new_one():
    """Identities are used again once a value is gone; answers keep what they were asked about."""

    @remembered
    def ranks(plan: LaunchPlan) -> int:
        return plan.world_size

    answers = [ranks(LaunchPlan(world_size=number)) for number in range(1, 3 * MOST)]

    assert answers == list(range(1, 3 * MOST))


def test_it_is_called_as_it_was_written():
    @remembered
    def ranks(plan: LaunchPlan) -> int:
        """Return the ranks."""
        return plan.world_size

    assert (ranks.__name__, ranks.__doc__) == ("ranks", "Return the ranks.")


@pytest.mark.parametrize("function", [adapter_tensors, held_tensors, nearest_adaptations])
@pytest.mark.parametrize("edits", [{"seq_len": 64}, {"micro_batch_size": 9}, {"seq_len": None}])
def test_what_a_plan_trains_is_the_same_at_every_size_and_told_apart_by_all_else(function, edits):
    plan = LaunchPlan(
        model="Qwen/Qwen2.5-0.5B", adapter=Adapter(rank=8), micro_batch_size=2, seq_len=512
    )
    model = load_plugins().first("preflight_describe_model", plan=plan)
    sized = plan.with_edits(edits)
    wider = sized.with_edits({"adapter.rank": 16})

    assert function(sized, model) is function(plan, model)
    for asked in (sized, wider):
        assert function(asked, model) == function.__wrapped__(asked, model)
