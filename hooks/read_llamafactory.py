"""Reads `llamafactory-cli train` and LLaMA-Factory's script under any launcher, and writes them back."""

from __future__ import annotations

from preflight.hookspecs import hookimpl
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.rewrite import Rewrite


@hookimpl
def preflight_read_launch(command: LaunchCommand) -> LaunchPlan | None:
    """Read `llamafactory-cli train config.yaml` and `torchrun src/train.py config.yaml`."""
    names = ("llamafactory", "lmf", "train.py", "launcher.py")
    if not any(name in word for word in command.argv for name in names):
        return None
    from preflight.dialects.llamafactory_cli import read_llamafactory

    return read_llamafactory(command)


@hookimpl
def preflight_write_launch(before: LaunchPlan, after: LaunchPlan) -> Rewrite | None:
    """Write a LLaMA-Factory launch back to its config and the words that beat it."""
    if before.launcher != "llamafactory":
        return None
    from preflight.dialects.llamafactory_write import write_llamafactory

    return write_llamafactory(before, after)
