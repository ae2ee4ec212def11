"""Python commands that only start another one: a debugger, a profiler, a script that submits what stands behind `--`."""

from __future__ import annotations

from collections.abc import Sequence

from preflight.errors import BadInput
from preflight.launch import LaunchCommand
from preflight.launchers.all import launchers, programs
from preflight.shell.starters.layers import Layer
from preflight.shell.starters.program_names import called, is_python, program_name
from preflight.shell.starters.wrapper_options import PYTHON_PROGRAMS
from preflight.shell.starters.wrappers import MAX_LAYERS, unwrapped


def starts_another(argv: Sequence[str]) -> bool:
    """Tell whether a Python command is only around one that may train."""
    what = called(argv)
    if what is None or what.kind == "program":
        return False
    if what.kind == "module" and what.name in PYTHON_PROGRAMS:
        return True
    if "--" not in argv[what.first_argument :]:
        return False
    if any(what.name in one.modules or what.name in one.programs for one in launchers()):
        return False
    return any(_may_train(layer.inner, 1) for layer in _layers(LaunchCommand(tuple(argv))))


def _may_train(command: LaunchCommand, depth: int) -> bool:
    name = program_name(command.argv[0])
    if name in programs() or (is_python(name) and called(command.argv) is not None):
        return True
    return depth < MAX_LAYERS and any(
        _may_train(layer.inner, depth + 1) for layer in _layers(command)
    )


def _layers(command: LaunchCommand) -> list[Layer]:
    try:
        return unwrapped(command)
    except BadInput:
        return []
