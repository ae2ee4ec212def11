"""Reads `llamafactory-cli train` and LLaMA-Factory's script under any launcher, and writes them back."""

from __future__ import annotations

from preflight.hookspecs import hookimpl
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.rewrite import Rewrite


@hookimpl
def preflight_read_launch(command: LaunchCommand) -> LaunchPlan | None:
    """Read `llamafactory-cli train config.yaml` and `torchrun src/train.py config.yaml`."""
    if not any(_may_be_its(command, word) for word in command.argv):
        return None
    from preflight.launchers.llamafactory.cli import read_llamafactory

    return read_llamafactory(command)


def _may_be_its(command: LaunchCommand, word: str) -> bool:
    """Tell whether a word names LLaMA-Factory, or a script that does; asked of every launch, so nothing is imported."""
    if "llamafactory" in word or word.endswith("lmf"):
        return True
    if not word.endswith(".py") or not command.exists(word):
        return False
    try:
        return "llamafactory" in command.read_text(word)
    except (OSError, UnicodeDecodeError):
        return False


@hookimpl
def preflight_write_launch(before: LaunchPlan, after: LaunchPlan) -> Rewrite | None:
    """Write a LLaMA-Factory launch back to its config and the words that beat it."""
    if before.launcher != "llamafactory":
        return None
    from preflight.launchers.llamafactory.write import write_llamafactory

    return write_llamafactory(before, after)
