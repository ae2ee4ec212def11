"""The packages of the environment that a launch runs in: the site-packages of its launcher's Python."""

from __future__ import annotations

import os

from preflight.files import entries_of
from preflight.launch import LaunchPlan
from preflight.libraries.environments import environment_of
from preflight.node.this_node import environment


def folders_of_launch(plan: LaunchPlan) -> tuple[str, ...]:
    """Return the folders that the launcher's Python imports from; empty where they cannot be told."""
    if plan.command is None:
        return ()
    found = environment_of(plan.command)
    if found is None or found.sees_more or not found.folders:
        return ()
    return (*found.folders, *_of_the_user(environment(plan).get("HOME", "")))


def _of_the_user(home: str) -> list[str]:
    """Return what `pip install --user` installs into: a package there may be seen, and is not called missing."""
    library = os.path.join(home, ".local", "lib")
    names = entries_of(library) if home else ()
    return [os.path.join(library, name, "site-packages") for name in names]
