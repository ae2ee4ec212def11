"""The corpus of launches and configs: how much there is of each dialect, and what is read through a shell script."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from preflight.errors import BadInput
from preflight.launch import LaunchCommand, LaunchPlan, plain
from preflight.plugins import load_plugins
from preflight.rewriting import read_launch

CONFIGS = Path(__file__).parents[1] / "configs"
CASES: dict[str, dict[str, Any]] = yaml.safe_load(
    (CONFIGS / "launches" / "manifest.yaml").read_text()
)
LEAST = {
    "accelerate": 80,
    "automodel": 2,
    "axolotl": 25,
    "deepspeed": 12,
    "launches": 42,
    "litgpt": 5,
    "llamafactory": 25,
    "openrlhf": 0,
    "oumi": 4,
    "scripts": 28,
    "swift": 2,
    "torchtitan": 8,
    "torchtune": 15,
    "verl": 1,
}
"""Files per dialect; a corpus only grows."""
LEAST_IN_ALL = 120
NOT_COUNTED = ("asked.json",)
"""What a library answered, beside the configs that it was asked about."""


def manifests() -> list[Path]:
    return sorted(CONFIGS.rglob("manifest.yaml"))


def corpus(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.name not in ("manifest.yaml", *NOT_COUNTED)
        and "__pycache__" not in path.parts
    ]


def read(case: dict[str, Any]) -> LaunchPlan:
    text = (CONFIGS / case["file"]).read_text()
    env = {"HOME": "/nonexistent", "HF_HOME": "/nonexistent", **case.get("env", {})}
    plan = read_launch(LaunchCommand(("bash", "-c", text), env, str(CONFIGS)), load_plugins(None))
    assert plan is not None
    return plan


@pytest.mark.parametrize("name", CASES)
def test_a_shell_script_starts_what_the_manifest_says(name):
    case = CASES[name]
    if "refused" in case:
        with pytest.raises(BadInput) as refused:
            read(case)
        problems = refused.value.problems

        assert sorted({p.id for p in problems if p.severity == "error"}) == case["refused"]
        return
    plan = read(case)

    assert f"{plan.engine}, {plan.world_size} ranks" == case["starts"]
    assert sorted({n.id for n in plan.notices if n.id}) == case.get("notices", [])
    assert {field: plain(getattr(plan, field)) for field in case.get("plan", ())} == case.get(
        "plan", {}
    )


def test_the_corpus_holds_every_dialect_and_more_than_the_least():
    counts = {folder: len(corpus(CONFIGS / folder)) for folder in LEAST}

    assert {name: count for name, count in counts.items() if count < LEAST[name]} == {}
    assert sum(counts.values()) >= LEAST_IN_ALL
    assert {path.name for path in CONFIGS.iterdir() if path.is_dir()} <= {*LEAST, "__pycache__"}


def test_every_file_of_the_corpus_is_named_by_a_manifest_or_by_a_file_that_is():
    said = {path: path.read_text(errors="replace") for path in corpus(CONFIGS)}
    told = " ".join(path.read_text() for path in manifests())
    everything = told + " ".join(said.values())

    for path in said:
        assert path.name in told or path.name in everything or path.stem in everything, path


def test_every_manifest_has_the_same_keys():
    known = {"argv", "file", "env", "starts", "plan", "says", "unknown", "notices", "refused"}
    for path in manifests():
        for name, case in yaml.safe_load(path.read_text()).items():
            assert {"argv", "file"} & {*case}, f"{path}: {name}"
            answers = {"starts", "plan", "says", "notices", "refused", "release"}
            asked = path.with_name("asked.json")  # what a library answers
            is_asked = asked.exists() and name in json.loads(asked.read_text())
            assert answers & {*case} or is_asked, f"{path}: {name}"
            if path.parent.name in ("", "configs", "launches", "scripts"):
                assert {*case} <= known, f"{path}: {name}"
