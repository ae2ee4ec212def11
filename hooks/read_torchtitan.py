"""Reads launches of torchtitan, whose script torchrun starts, and writes them back with other values."""

from __future__ import annotations

from preflight.hookspecs import hookimpl
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.rewrite import Rewrite

MARKS = ("torchtitan", "--job.config", "run_train.sh")


@hookimpl
def preflight_read_launch(command: LaunchCommand) -> LaunchPlan | None:
    """Read `torchrun -m torchtitan.train --job.config_file FILE --section.key value`, its `--module` form and run_train.sh."""
    if not any(mark in word for word in command.argv for mark in MARKS):
        return None
    from preflight.launchers.torchtitan.cli import read_torchtitan

    return read_torchtitan(command)


@hookimpl
def preflight_write_launch(before: LaunchPlan, after: LaunchPlan) -> Rewrite | None:
    """Write a torchtitan launch back to `--section.key value` flags of its script."""
    if before.launcher != "torchtitan":
        return None
    from preflight.launchers.torchtitan.write import write_torchtitan

    return write_torchtitan(before, after)
