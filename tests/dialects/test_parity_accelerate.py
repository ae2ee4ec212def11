"""Every launch of the corpus, read by preflight and by the installed accelerate: the same plan, or the same refusal."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from installed_accelerate import MODEL_HIDDEN_SIZE, Refused, ask_accelerate
from preflight.hooks.read_accelerate import preflight_read_launch

from preflight.errors import BadInput
from preflight.launch import LaunchCommand, LaunchPlan

CONFIGS = pathlib.Path(__file__).parent.parent / "configs"
CASES: dict[str, dict[str, Any]] = yaml.safe_load((CONFIGS / "manifest.yaml").read_text())
HIDDEN = {
    "reduce_bucket_size": MODEL_HIDDEN_SIZE**2,
    "stage3_prefetch_bucket_size": int(0.9 * MODEL_HIDDEN_SIZE**2),
    "stage3_param_persistence_threshold": 10 * MODEL_HIDDEN_SIZE,
}


def read(case: Mapping[str, Any]) -> LaunchPlan:
    """Return preflight's plan of a case."""
    env = {**os.environ, **case.get("env", {})}
    command = LaunchCommand(("accelerate", "launch", *case["argv"].split()), env, str(CONFIGS))
    plan = preflight_read_launch(command=command)
    assert plan is not None
    return plan


@pytest.fixture(autouse=True)
def no_default_config(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """A default config of the person who runs the tests must not decide a case; accelerate looks it up at import."""
    import accelerate.commands.launch

    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr(
        accelerate.commands.launch, "default_config_file", str(tmp_path / "none.yaml")
    )
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def differences(plan: LaunchPlan, theirs: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return field -> (ours, theirs) where the two readings differ."""
    found = {
        name: (getattr(plan, name), value)
        for name, value in theirs.items()
        if name != "deepspeed" and getattr(plan, name) != value
    }
    for name, value in theirs.get("deepspeed", {}).items():
        ours = getattr(plan.deepspeed, name)
        if ours is None:  # `auto` with the hidden size, or DeepSpeed's rule for overlap_comm
            ours = HIDDEN.get(name, plan.engine == "zero3")
        if ours != value:
            found[f"deepspeed.{name}"] = (ours, value)
    return found


@pytest.mark.parametrize("name", CASES)
def test_plan_or_refusal_is_the_one_of_the_installed_accelerate(name: str) -> None:
    case = CASES[name]
    try:
        theirs = ask_accelerate(case["argv"].split(), case.get("env", {}), str(CONFIGS))
    except Refused:
        with pytest.raises(BadInput):
            read(case)
        return

    assert differences(read(case), theirs) == {}


@pytest.mark.parametrize("name", CASES)
def test_what_is_said_about_a_launch_is_what_the_manifest_says(name: str) -> None:
    case = CASES[name]
    if "refused" in case:
        with pytest.raises(BadInput) as refusal:
            read(case)
        said = sorted({problem.id for problem in refusal.value.problems})

        assert said == case["refused"]
        return
    plan = read(case)
    notices = sorted({notice.id for notice in plan.notices if notice.id})

    assert f"{plan.engine}, {plan.world_size} ranks" == case["starts"]
    assert notices == case.get("notices", [])


@pytest.mark.parametrize("name", [name for name in CASES if "refused" in CASES[name]])
def test_a_refusal_says_what_and_where(name: str) -> None:
    with pytest.raises(BadInput) as refusal:
        read(CASES[name])

    for problem in refusal.value.problems:
        assert problem.message
        first = problem.message.split()[0]
        assert not first.istitle()  # lower case, or a name that has its own
        assert not problem.message.endswith(".")
        assert problem.where or problem.fix


def test_every_config_of_the_corpus_is_in_the_manifest() -> None:
    stated = " ".join(case["argv"] for case in CASES.values())

    for path in CONFIGS.glob("accelerate/*"):
        assert f"accelerate/{path.name}" in stated
