"""Reads `python train.py` and `python -m module`, and writes them back with other values."""

from __future__ import annotations

from preflight.hookspecs import hookimpl
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.rewrite import Rewrite


@hookimpl
def preflight_read_launch(command: LaunchCommand) -> LaunchPlan | None:
    """Read a script or module that Python starts directly; asked after every other reader."""
    from preflight.shell.program_names import called

    what = called(command.argv)
    if what is None or what.kind == "program":
        return None
    from preflight.launchers.python.plan import read_python

    return read_python(command)


@hookimpl
def preflight_write_launch(before: LaunchPlan, after: LaunchPlan) -> Rewrite | None:
    """Write a plain Python launch back to the script's arguments, its files and the environment."""
    if before.launcher != "python":
        return None
    from preflight.writers.launch import write_launch

    return write_launch(before, after)
