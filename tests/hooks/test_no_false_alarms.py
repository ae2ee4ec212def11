"""Launches that ran, and those that accelerate starts, have no error among what is found in their training."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from preflight.formats.load import read_data_file
from preflight.judge import judge_plan
from preflight.launch import LaunchCommand
from preflight.policy import Policy
from preflight.request import Request, with_request
from preflight.rewriting import read_launch
from preflight.studies.measured import read_runs
from preflight.studies.validate import device_of

TESTS = Path(__file__).parent.parent
CONFIGS = TESTS / "configs"
CASES = yaml.safe_load((CONFIGS / "manifest.yaml").read_text())
STANDS_IN = "qwen_readme"
"""Runs of Qwen 1, whose own code names its modules: the file prices them with a Qwen 2 config."""
STARTED = [name for name, case in CASES.items() if "starts" in case]


def errors(plugins, plan, model=None, device=None):
    asked = {"plan": plan, "model": model, "device": device, "estimate": None}
    items = [finding for _, finding in plugins.collect("preflight_findings", **asked)]
    return [f.message for f in items if f.severity == "error" and f.id.startswith("PF4")]


def test_a_run_that_was_measured_has_no_error(plugins):
    """Some died of memory; none of a setting that its libraries refuse."""
    runs = read_runs(read_data_file(str(TESTS / "measured" / "runs-dev.yaml")))
    wrong = {}
    for run in runs:
        if run.id.startswith(STANDS_IN):
            continue
        judged = judge_plan(run.plan, plugins, Policy(), device=device_of(run, plugins))
        found = errors(plugins, judged.plan, judged.model, judged.device)
        if found:
            wrong[run.id] = found

    assert len(runs) > 100
    assert wrong == {}


ASKS_FOR_MORE = "ddp_gpu_ids"
"""Eight ranks on two devices: accelerate starts it, CUDA stops six of them."""


def test_no_launch_that_starts_is_refused_by_the_node_it_starts_on(plugins):
    """This machine, as far as it is asked: its interfaces, packages, disk and limits."""
    wrong = {}
    for name in STARTED:
        words = ("accelerate", "launch", *CASES[name]["argv"].split())
        command = LaunchCommand(words, {"PATH": os.environ["PATH"]}, str(CONFIGS))
        plan = with_request(read_launch(command, plugins), Request(on_this_node=True))
        asked = {"plan": plan, "model": None, "device": None}
        items = [finding for _, finding in plugins.collect("preflight_findings", **asked)]
        # Another test may hold the launchers' default port just now.
        found = [f.id for f in items if f.severity == "error" and f.id != "PF506"]
        if found:
            wrong[name] = found

    assert wrong == {ASKS_FOR_MORE: ["PF119"]}


@pytest.mark.parametrize("name", STARTED)
def test_a_launch_that_starts_has_no_error(plugins, name):
    words = ("accelerate", "launch", *CASES[name]["argv"].split())
    plan = read_launch(LaunchCommand(words, {}, str(CONFIGS)), plugins)

    assert errors(plugins, plan) == []
