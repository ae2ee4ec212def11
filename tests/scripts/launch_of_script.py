"""A plan of a launch of a script that a test writes, with the files beside it."""

from __future__ import annotations

from pathlib import Path

from preflight.launch import LaunchCommand, LaunchPlan
from preflight.plugins import load_plugins


def plan_of(
    folder: Path, command: str, files: dict[str, str], env: dict[str, str] | None = None
) -> LaunchPlan:
    """Return the plan of a command line, in a folder of these files and in an environment."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    launch = LaunchCommand(tuple(command.split()), env or {}, str(folder))
    plan = load_plugins().first("preflight_read_launch", command=launch)
    assert isinstance(plan, LaunchPlan)
    return plan


def opens(plan: LaunchPlan) -> set[str]:
    """Return the fields of a plan whose value only running tells."""
    return {name for name, origin in plan.origins.items() if origin.may_be}
