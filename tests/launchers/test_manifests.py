"""Every launch of a framework's manifest is read as it says there, or refused with every problem at once."""

from __future__ import annotations

import pytest
from framework_launches import CONFIGS, cases_of, command_of, said_plan, unstated

from preflight.errors import BadInput
from preflight.launch import LaunchPlan
from preflight.launchers.all import launcher_named

FRAMEWORKS = ("axolotl", "litgpt", "llamafactory", "swift", "verl")
CASES = {(name, case): facts for name in FRAMEWORKS for case, facts in cases_of(name).items()}


def of(kind: str) -> list[object]:
    """Return the cases of which a manifest states the plan, or the ids of what is refused."""
    return [pytest.param(*key, id="-".join(key)) for key, case in CASES.items() if kind in case]


def read(framework: str, name: str) -> LaunchPlan:
    command = command_of(CASES[framework, name], CONFIGS / framework)
    plan = launcher_named(framework).read(command)
    assert isinstance(plan, LaunchPlan)
    return plan


@pytest.mark.parametrize(("framework", "name"), of("plan"))
def test_a_launch_is_read_as_its_manifest_says(framework: str, name: str) -> None:
    case, plan = CASES[framework, name], read(framework, name)

    assert said_plan(case, plan) == case["plan"]
    assert unstated(case, plan) == {}
    assert [notice.id for notice in plan.notices] == case.get("notices", [])


@pytest.mark.parametrize(("framework", "name"), of("refused"))
def test_a_wrong_launch_is_refused_with_every_problem(framework: str, name: str) -> None:
    with pytest.raises(BadInput) as refused:
        read(framework, name)

    errors = [problem for problem in refused.value.problems if problem.severity == "error"]
    assert [problem.id for problem in errors] == CASES[framework, name]["refused"]
    assert all(problem.where for problem in errors)
