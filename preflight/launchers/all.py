"""Every launcher that a built-in hook reads: asked for its facts here, and listed nowhere else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module

from preflight.builtin_hooks import BUILTIN_HOOKS
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.launchers.contract import Launcher

READERS = "read_"


@lru_cache(maxsize=1)
def launchers() -> tuple[Launcher, ...]:
    """Return all launchers, those that stand in front of others last."""
    names = [name.removeprefix(READERS) for name in BUILTIN_HOOKS if name.startswith(READERS)]
    return tuple(_launcher(name) for name in names)


def _launcher(name: str) -> Launcher:
    launcher: Launcher = import_module(f"preflight.launchers.{name}").LAUNCHER
    return launcher


def is_launchers_own(command: LaunchCommand) -> bool:
    """Tell whether a launcher may read a command as it stands, without what is around it."""
    return any(launcher.may_own(command) for launcher in launchers())


@lru_cache(maxsize=1)
def programs() -> Mapping[str, Launcher]:
    """Return the launcher of every program that starts ranks."""
    return {program: launcher for launcher in launchers() for program in launcher.programs}


def words_in_texts() -> tuple[str, ...]:
    """Return the programs that can be looked for in a text: `ds` stands in too many other words."""
    return tuple(program for program in programs() if len(program) > 2)


def launch_pattern() -> str:
    """Return a pattern of the words that start a training, as a person types them: `tune run`, `torchrun`."""
    starts = []
    for launcher in launchers():
        for name in (*launcher.programs, *launcher.modules):
            if name in launcher.programs and name not in words_in_texts():
                continue
            start = re.escape(name)
            if launcher.subcommands and name not in launcher.without_subcommand:
                start += rf"\s+(?:{'|'.join(launcher.subcommands)})"
            starts.append(start)
    patterns = [rf"\b(?:{'|'.join(dict.fromkeys(starts))})\b"]
    return "|".join((*patterns, *(one.in_texts for one in launchers() if one.in_texts)))


def launcher_of(plan: LaunchPlan) -> Launcher:
    """Return the launcher whose words a plan's user writes: the framework that trains, else what starts the ranks.

    A plan of another reader, or of a file, has one that differs in nothing.
    """
    return _of_trainer(plan.trainer) or launcher_named(plan.launcher or "")


@lru_cache(maxsize=64)
def _of_trainer(trainer: str | None) -> Launcher | None:
    if trainer is None:
        return None
    return next((one for one in launchers() if one.trainer == trainer), None)


@lru_cache(maxsize=64)
def launcher_named(name: str) -> Launcher:
    """Return the launcher of a plan's `launcher`; one that differs in nothing where no built-in has the name."""
    return next((one for one in launchers() if one.name == name), Launcher(name, reader=""))
