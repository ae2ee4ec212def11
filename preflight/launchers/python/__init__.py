"""python: a script or module that Python starts directly."""

from __future__ import annotations

from preflight.launch import LaunchCommand
from preflight.launchers.contract import Launcher
from preflight.shell.program_names import called


def _starts_a_script(command: LaunchCommand) -> bool:
    what = called(command.argv)
    return what is not None and what.kind != "program"


LAUNCHER = Launcher(
    name="python",
    reader="preflight.launchers.python.plan:read_python",
    writer="preflight.writers.launch:write_launch",
    recognises=_starts_a_script,
)
