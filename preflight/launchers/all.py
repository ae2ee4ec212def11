"""Every launcher that a built-in hook reads: asked for its facts here, and listed nowhere else."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module

from preflight.launch import LaunchPlan
from preflight.launchers.contract import Launcher
from preflight.plugins import BUILTIN_HOOKS

READERS = "read_"


@lru_cache(maxsize=1)
def launchers() -> tuple[Launcher, ...]:
    """Return all launchers, those that stand in front of others last."""
    names = [name.removeprefix(READERS) for name in BUILTIN_HOOKS if name.startswith(READERS)]
    return tuple(_launcher(name) for name in names)


def _launcher(name: str) -> Launcher:
    launcher: Launcher = import_module(f"preflight.launchers.{name}").LAUNCHER
    return launcher


def launcher_of(plan: LaunchPlan) -> Launcher:
    """Return the launcher whose words a plan's user writes: the framework that trains, else what starts the ranks.

    A plan of another reader, or of a file, has one that differs in nothing.
    """
    return _called(plan.trainer, plan.launcher)


@lru_cache(maxsize=64)
def _called(trainer: str | None, name: str | None) -> Launcher:
    for launcher in launchers():
        if trainer is not None and launcher.trainer == trainer:
            return launcher
    for launcher in launchers():
        if launcher.name == name:
            return launcher
    return Launcher(name or "", reader="")
