"""The launcher in front of a framework's own module or script: accelerate, torchrun, deepspeed or python."""

from __future__ import annotations

from collections.abc import Callable

from preflight.engines.settings import EngineSettings
from preflight.errors import Problem, raise_if_any
from preflight.launch import LaunchCommand
from preflight.launchers.accelerate.argv import first_option_index, parse_launch
from preflight.launchers.accelerate.launcher import read_launcher_settings
from preflight.launchers.accelerate.notes import launch_notes
from preflight.launchers.accelerate.plan import accelerate_part, cpu_notes
from preflight.reading import Problems, Reading
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_options import ParsedOptions
from preflight.shell.starters.launcher_part import LauncherPart
from preflight.shell.starters.program_names import called

Front = tuple[LauncherPart, tuple[Problem, ...]]
"""What the launcher decides, and what is to be said about it behind everything else."""


def launcher_in_front(
    command: LaunchCommand, is_ours: Callable[[int], bool]
) -> Reading[Front] | None:
    """Return what the launcher decides; None unless it starts what `is_ours` knows at an argv index."""
    argv = command.argv
    first = first_option_index(argv)
    what = called(argv)
    if first is not None:
        arguments = parse_launch(command, first)
        if arguments.script_index >= len(argv) or not is_ours(arguments.script_index):
            return None
        raise_if_any(arguments.problems)
        return accelerate_in_front(command, arguments)
    if what is not None and what.kind != "program" and is_ours(what.position):
        from preflight.launchers.python.plan import python_part

        place = Place("argv", "", "python", index=0)
        return Reading((python_part(command, place, 1, what.position), ()))
    return _torchrun(command, is_ours) or _deepspeed(command, is_ours)


def accelerate_in_front(command: LaunchCommand, arguments: ParsedOptions) -> Reading[Front]:
    """Return what accelerate's launcher decides, and its notes."""
    problems = Problems()
    settings = problems.take(read_launcher_settings(arguments, command))
    part = problems.take(accelerate_part(command, arguments, settings))
    ranks = EngineSettings(fields={**part.ranks, "engine": Setting(part.mode, part.mode_place)})
    refused = problems.refused
    notes = (n for n in launch_notes(settings, part.env, ranks) if n.where not in refused)
    return Reading((part, (*notes, *cpu_notes(settings))), tuple(problems))


def _torchrun(command: LaunchCommand, is_ours: Callable[[int], bool]) -> Reading[Front] | None:
    from preflight.launchers.torchrun import LAUNCHER
    from preflight.launchers.torchrun.plan import parse_torchrun, torchrun_part

    start = LAUNCHER.first_argument(command.argv)
    if start is None:
        return None
    options = parse_torchrun(command, start)
    if options.script_index >= len(command.argv) or not is_ours(options.script_index):
        return None
    raise_if_any(options.problems)
    part = torchrun_part(command, options)
    return Reading((part.value, ()), part.problems)


def _deepspeed(command: LaunchCommand, is_ours: Callable[[int], bool]) -> Reading[Front] | None:
    from preflight.launchers.deepspeed.plan import deepspeed_in_front

    part = deepspeed_in_front(command, is_ours)
    return None if part is None else Reading((part.value, ()), part.problems)
