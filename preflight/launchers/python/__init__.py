"""python: a script or module that Python starts directly."""

from __future__ import annotations

from preflight.launch import LaunchCommand
from preflight.launchers.contract import Launcher
from preflight.shell.starters.program_names import called
from preflight.shell.starters.wrapper_options import PYTHON_PROGRAMS


def _starts_a_script(command: LaunchCommand) -> bool:
    what = called(command.argv)
    if what is None or what.kind == "program":
        return False
    if "--" not in command.argv and what.name not in PYTHON_PROGRAMS:
        return True
    from preflight.launchers.launcher_behind import starts_another  # few commands ask

    return not starts_another(command.argv)


LAUNCHER = Launcher(
    name="python",
    reader="preflight.launchers.python.plan:read_python",
    writer="preflight.writers.launch:write_launch",
    recognises=_starts_a_script,
)
