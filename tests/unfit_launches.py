"""Twenty launches that do not fit as written (tests/does_not_fit), read and checked."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from preflight.launch import LaunchCommand, LaunchPlan
from preflight.pipeline import check_launch
from preflight.plugin_manager import PluginManager
from preflight.policy import Policy
from preflight.report import Report
from preflight.request import Request, with_request
from preflight.rewriting import read_launch

FOLDER = Path(__file__).parent / "does_not_fit"
CASES: dict[str, Mapping[str, Any]] = yaml.safe_load((FOLDER / "manifest.yaml").read_text())
ANY = Policy()


def command_of(name: str) -> LaunchCommand:
    """Return a launch as it would be typed in its folder."""
    case = CASES[name]
    return LaunchCommand(tuple(shlex.split(case["argv"])), case.get("env", {}), str(FOLDER))


def request_of(name: str) -> Request:
    return Request(device=CASES[name]["device"])


def plan_of(name: str, plugins: PluginManager) -> LaunchPlan:
    plan = read_launch(command_of(name), plugins)
    assert plan is not None, name
    return with_request(plan, request_of(name))


def report_of(name: str, plugins: PluginManager, policy: Policy = ANY) -> Report:
    return check_launch(command_of(name), plugins, replace(request_of(name), policy=policy))
