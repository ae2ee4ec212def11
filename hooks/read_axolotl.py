"""Reads `axolotl train` and axolotl's training module under accelerate, torchrun and python, and writes them back."""

from __future__ import annotations

from preflight.hookspecs import hookimpl
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.rewrite import Rewrite


@hookimpl
def preflight_read_launch(command: LaunchCommand) -> LaunchPlan | None:
    """Read `axolotl train config.yaml` and `... -m axolotl.cli.train config.yaml`."""
    if not any("axolotl" in word for word in command.argv):
        return None
    from preflight.launchers.axolotl.cli import read_axolotl

    return read_axolotl(command)


@hookimpl
def preflight_write_launch(before: LaunchPlan, after: LaunchPlan) -> Rewrite | None:
    """Write an axolotl launch back to its config and the words that beat it."""
    if before.launcher != "axolotl":
        return None
    from preflight.launchers.axolotl.write import write_axolotl

    return write_axolotl(before, after)
