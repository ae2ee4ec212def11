"""Reads `trl sft` and TRL's other training commands, and writes them back with other values."""

from __future__ import annotations

from preflight.hookspecs import hookimpl
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.rewrite import Rewrite


@hookimpl
def preflight_read_launch(command: LaunchCommand) -> LaunchPlan | None:
    """Read `trl sft`, `trl dpo`, `trl grpo`, `trl kto`, `trl reward`, `trl rloo` and `trl distillation`."""
    from preflight.shell.program_names import calls

    if calls(command.argv, ("trl",), ("trl.cli.main",)) is None:
        return None
    from preflight.launchers.trl.plan import read_trl

    return read_trl(command)


@hookimpl
def preflight_write_launch(before: LaunchPlan, after: LaunchPlan) -> Rewrite | None:
    """Write a trl launch back to its flags, its argument file and the accelerate config."""
    if before.launcher != "trl":
        return None
    from preflight.writers.launch import write_launch

    return write_launch(before, after)
