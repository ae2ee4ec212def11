"""Reads commands of the `deepspeed` launcher, and writes them back with other values."""

from __future__ import annotations

from preflight.hookspecs import hookimpl
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.rewrite import Rewrite


@hookimpl
def preflight_read_launch(command: LaunchCommand) -> LaunchPlan | None:
    """Read `deepspeed` and `python -m deepspeed.launcher.runner`."""
    from preflight.shell.program_names import calls

    programs, modules = ("deepspeed", "deepspeed.pt", "ds"), ("deepspeed.launcher.runner",)
    if calls(command.argv, programs, modules) is None:
        return None
    from preflight.launchers.deepspeed.plan import read_deepspeed_launch

    return read_deepspeed_launch(command)


@hookimpl
def preflight_write_launch(before: LaunchPlan, after: LaunchPlan) -> Rewrite | None:
    """Write a deepspeed launch back to its JSON, the script's arguments and the environment."""
    if before.launcher != "deepspeed":
        return None
    from preflight.writers.launch import write_launch

    return write_launch(before, after)
