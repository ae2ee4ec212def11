"""Reads `accelerate launch` commands, and writes them back with other values."""

from __future__ import annotations

from preflight.hookspecs import hookimpl
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.rewrite import Rewrite


@hookimpl
def preflight_read_launch(command: LaunchCommand) -> LaunchPlan | None:
    """Read `accelerate launch`, `accelerate-launch` and `python -m accelerate.commands.launch`."""
    from preflight.launchers.accelerate.argv import first_option_index

    if first_option_index(command.argv) is None:
        return None
    from preflight.launchers.accelerate.plan import read_accelerate_launch

    return read_accelerate_launch(command)


@hookimpl
def preflight_write_launch(before: LaunchPlan, after: LaunchPlan) -> Rewrite | None:
    """Write a launch that this module read back to its YAML, JSON, argv and environment."""
    if before.launcher != "accelerate":
        return None
    from preflight.writers.launch import write_launch

    return write_launch(before, after)
