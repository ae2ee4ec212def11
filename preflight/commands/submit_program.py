"""What stays of a guarded submission: the words on stderr, and Slurm's own program in place of this process."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import NoReturn

from preflight.errors import BadInput

SUBMITTED = "PREFLIGHT_SUBMITTED"


def judged_here() -> dict[str, str]:
    """Return what tells a site's client guard that this process, which becomes Slurm's program, was judged."""
    return {SUBMITTED: str(os.getpid())}


def say(lines: list[str]) -> None:
    from preflight.commands.output import print_lines

    if lines:
        print_lines(lines, sys.stderr)


def become(
    name: str, words: list[str], env: Mapping[str, str], text: str | None = None
) -> NoReturn:
    """Replace this process by Slurm's program, with the script that was read put back on its standard input."""
    from preflight.commands.becoming import find_program

    program = find_program(name, dict(env))
    if text is not None:
        handle = os.memfd_create("job script")
        with os.fdopen(os.dup(handle), "wb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))
        os.lseek(handle, 0, os.SEEK_SET)
        os.dup2(handle, 0)
    try:
        os.execve(program, [name, *words], dict(env))
    except OSError as error:
        raise BadInput.one(f"{program} cannot be executed: {error.strerror}", name) from error
