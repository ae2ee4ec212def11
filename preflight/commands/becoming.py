"""This process replaced by the launcher: its signals and its exit code are the launcher's."""

from __future__ import annotations

import os

from preflight.errors import BadInput


def find_program(name: str, env: dict[str, str]) -> str:
    """Return the path of a program, as exec would find it; raise BadInput where there is none."""
    candidates = [name]
    if os.path.dirname(name) == "":
        candidates = [os.path.join(folder, name) for folder in os.get_exec_path(env)]
    for candidate in candidates:
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    raise BadInput.one(
        f"{name!r} is not on PATH, or cannot be executed",
        "the command after --",
        "activate the environment that the launcher is installed in",
    )


def become(program: str, argv: tuple[str, ...], env: dict[str, str]) -> int:
    """Replace this process: its signals and exit code are the launcher's from here on."""
    from preflight.embedded.guard_doors import CHECKED

    try:
        # The process keeps its id, so a guard in the launcher sees that this launch was checked.
        os.execve(program, list(argv), {**env, CHECKED: str(os.getpid())})
    except OSError as error:
        raise BadInput.one(
            f"{program} cannot be executed: {error.strerror}", "the command after --"
        ) from error
