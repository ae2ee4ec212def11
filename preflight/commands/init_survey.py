"""What a repository says about its launches: the commands in its shell scripts, Makefile and README, each read."""

from __future__ import annotations

import os

from preflight.errors import BadInput
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.lazy_pattern import lazy_pattern
from preflight.plugins import load_plugins
from preflight.studies.launch_files import commands_in, text_of
from preflight.studies.searched_files import launch_files
from preflight.values import NamedTuple

GPU_ASKED = lazy_pattern(r"--(?:gres|gpus(?:-per-\w+)?)[= ](?:gpu:)?([A-Za-z][\w.-]*)")


class Launch(NamedTuple):
    """One launch of the repository, read."""

    where: str
    line: str
    plan: LaunchPlan


class Survey(NamedTuple):
    """What was found."""

    launches: tuple[Launch, ...]
    unread: tuple[tuple[str, str], ...]
    """Place of a launch that could not be read, and why."""
    gpus: tuple[tuple[str, str], ...]
    """Place and name of a GPU that a job asks Slurm for."""


def survey(folder: str) -> Survey:
    """Read every launch that the files of a repository show."""
    plugins = load_plugins(None)
    launches: list[Launch] = []
    unread: list[tuple[str, str]] = []
    gpus: list[tuple[str, str]] = []
    seen: set[tuple[str, ...]] = set()
    from preflight.rewriting import read_launch

    for path in launch_files(folder).paths:
        text = text_of(os.path.join(folder, path))
        for number, line in enumerate(text.splitlines(), 1):
            asked = GPU_ASKED.search(line)
            if asked and not asked[1].isdecimal():
                gpus.append((f"{path}:{number}", asked[1]))
        for number, argv in commands_in(path, text):
            if argv in seen:
                continue
            seen.add(argv)
            where = f"{path}:{number}"
            try:
                plan = read_launch(LaunchCommand(argv, {}, folder), plugins)
            except BadInput as error:
                unread.append((where, error.problems[0].message))
                continue
            if plan is not None and (plan.launcher != "python" or plan.trainer is not None):
                launches.append(Launch(where, " ".join(argv), plan))
    return Survey(tuple(launches), tuple(unread), tuple(gpus))
