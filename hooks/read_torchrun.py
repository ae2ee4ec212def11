"""Reads `torchrun` commands, and writes them back with other values."""

from __future__ import annotations

from preflight.hookspecs import hookimpl
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.rewrite import Rewrite


@hookimpl
def preflight_read_launch(command: LaunchCommand) -> LaunchPlan | None:
    """Read `torchrun`, `python -m torch.distributed.run` and `python -m torch.distributed.launch`."""
    from preflight.shell.program_names import calls

    modules = ("torch.distributed.run", "torch.distributed.launch")
    if calls(command.argv, ("torchrun",), modules) is None:
        return None
    from preflight.launchers.torchrun.plan import read_torchrun

    return read_torchrun(command)


@hookimpl
def preflight_write_launch(before: LaunchPlan, after: LaunchPlan) -> Rewrite | None:
    """Write a torchrun launch back to the script's arguments, its files and the environment."""
    if before.launcher != "torchrun":
        return None
    from preflight.writers.launch import write_launch

    return write_launch(before, after)
