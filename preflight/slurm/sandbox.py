"""Running a script that nobody trusts: it may read, think for five seconds, and write into one folder of ours.

    preflight -> keeper (ends when we do) -> bash, confined, in a session of its own

Nothing that bash starts can leave its process group, so one signal ends all of it.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Mapping, Sequence

from preflight.slurm.landlock import landlock_version
from preflight.slurm.sandbox_keeper import AFTER_THE_END_S, Confinement, end_group, keep
from preflight.slurm.syscall_filter import NoFilter, filter_program
from preflight.values import dataclass


class CannotConfine(Exception):
    """This machine cannot run a script safely; the message says what is missing."""


@dataclass(frozen=True)
class Ending:
    """How a confined script ended."""

    code: int | None
    """Its exit code, the negative number of a signal, or None where it was stopped."""
    stopped: str = ""
    """Why it was stopped: `after 5 s`, ..."""
    seconds: float = 0.0


def run_confined(
    argv: Sequence[str], env: Mapping[str, str], cwd: str, rules: Confinement
) -> Ending:
    """Run a program confined, with nothing on its standard input and its output thrown away.

    What it says on stderr goes to `stderr` in the scratch folder. Raises CannotConfine where this
    machine has no means; nothing has run then.
    """
    if landlock_version() < 1:
        raise CannotConfine("this kernel has no Landlock")
    try:
        program = filter_program()
    except NoFilter as error:
        raise CannotConfine(str(error)) from None
    started = time.monotonic()
    reader, writer = os.pipe()
    keeper = os.fork()
    if keeper == 0:
        keep(argv, env, cwd, rules, program, writer)
    os.close(writer)
    said = ""
    try:
        said = _all_of(reader, started + rules.longest_s + 2 * AFTER_THE_END_S + 2.0)
    finally:
        said += _rest_of(reader)
        group = said.partition("\n")[0]
        if group.isdecimal():
            end_group(int(group))
        end_group(keeper)
        os.waitpid(keeper, 0)
        os.close(reader)
    return _ending(said.partition("\n")[2], time.monotonic() - started, rules)


def _ending(said: str, seconds: float, rules: Confinement) -> Ending:
    if not said and seconds > rules.longest_s:
        return Ending(None, f"after {rules.longest_s:g} s", seconds)
    kind, _, rest = said.partition(" ")
    if kind == "exit":
        return Ending(int(rest), seconds=seconds)
    if kind == "stopped":
        return Ending(None, rest, seconds)
    raise CannotConfine(rest or "the process that watches the script was killed")


def _all_of(reader: int, deadline: float) -> str:
    """Return what the keeper says until it ends: the script's group in a line, and how it ended."""
    parts = []
    while select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
        part = os.read(reader, 4096)
        if not part:
            break
        parts.append(part)
    return b"".join(parts).decode(errors="replace")


def _rest_of(reader: int) -> str:
    """Return what can be read at once: the group, where reading was interrupted before it came."""
    if select.select([reader], [], [], 0.0)[0]:
        return os.read(reader, 4096).decode(errors="replace")
    return ""
