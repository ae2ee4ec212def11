"""The packages of the environment that a launch runs in: the site-packages of its launcher's Python."""

from __future__ import annotations

import os

from preflight.launch import LaunchPlan
from preflight.node.packages import folders_of, interpreter_of, versions_in
from preflight.node.this_node import environment


def folders_of_launch(plan: LaunchPlan) -> tuple[str, ...]:
    """Return the folders that the launcher's Python imports from; empty where they cannot be told."""
    if plan.command is None:
        return ()
    env = environment(plan)
    interpreter = interpreter_of(plan.command.argv[0], env.get("PATH", ""))
    folders = () if interpreter is None else folders_of(interpreter)
    if not folders:
        return ()
    more = [folder for folder in env.get("PYTHONPATH", "").split(os.pathsep) if folder]
    return (*more, *folders, *_of_the_user(env.get("HOME", "")))


def packages_of_launch(plan: LaunchPlan) -> dict[str, str]:
    """Return import name -> version of what the launch can import; empty where it cannot be told."""
    return versions_in(folders_of_launch(plan))


def _of_the_user(home: str) -> list[str]:
    """Return what `pip install --user` installs into: a package there may be seen, and is not called missing."""
    library = os.path.join(home, ".local", "lib")
    try:
        names = sorted(os.listdir(library)) if home else []
    except OSError:
        return []
    return [os.path.join(library, name, "site-packages") for name in names]
