"""Reads `tune run` with torchtune's recipes and configs, and writes it back with other values."""

from __future__ import annotations

from preflight.hookspecs import hookimpl
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.rewrite import Rewrite


@hookimpl
def preflight_read_launch(command: LaunchCommand) -> LaunchPlan | None:
    """Read `tune run [torchrun options] RECIPE --config NAME_OR_FILE key=value`."""
    from preflight.shell.program_names import calls

    if calls(command.argv, ("tune",), ("torchtune._cli.tune",)) is None:
        return None
    from preflight.launchers.torchtune.cli import read_torchtune

    return read_torchtune(command)


@hookimpl
def preflight_write_launch(before: LaunchPlan, after: LaunchPlan) -> Rewrite | None:
    """Write a torchtune launch back to `key=value` words of its command line."""
    if before.launcher != "torchtune":
        return None
    from preflight.launchers.torchtune.write import write_torchtune

    return write_torchtune(before, after)
