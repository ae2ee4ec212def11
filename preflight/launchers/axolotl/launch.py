"""What `axolotl train` starts its ranks with: accelerate, torchrun or nothing, by the words behind its own.

Source: launch_training in cli/utils/train.py of axolotl 0.19.0.
"""

from __future__ import annotations

from dataclasses import replace

from preflight.errors import Problem, raise_if_any
from preflight.launch import LaunchCommand
from preflight.launchers.accelerate.argv import LauncherArguments, parse_launcher_arguments
from preflight.launchers.axolotl.words import AxolotlWords
from preflight.launchers.launcher_in_front import accelerate_in_front
from preflight.setting import Place, Setting
from preflight.shell.launcher_part import LauncherPart


def cli_part(
    command: LaunchCommand, words: AxolotlWords, problems: list[Problem]
) -> tuple[LauncherPart, list[Problem]]:
    """Return what the launcher that `axolotl train` starts decides, with the places that the user wrote."""
    launched = tuple(command.argv[index] for index in words.launcher_indices)
    if words.launcher == "python":
        from preflight.launchers.python.plan import python_part

        place, index = words.launcher_place, words.script_index
        return python_part(command, place, index, index), []
    if words.launcher == "torchrun":
        return _torchrun_part(command, words, launched, problems), []
    parsed = parse_launcher_arguments((*launched, "script.py"), 0)
    problems.extend(parsed.problems)
    raise_if_any(problems)
    given = {key: _moved(setting, words) for key, setting in parsed.given.items()}
    arguments = LauncherArguments(given, words.script_index, words.script_index)
    return accelerate_in_front(command, arguments, problems)


def _torchrun_part(
    command: LaunchCommand,
    words: AxolotlWords,
    launched: tuple[str, ...],
    problems: list[Problem],
) -> LauncherPart:
    from preflight.launchers.torchrun.options import OPTIONS, from_environment
    from preflight.launchers.torchrun.plan import USAGE, torchrun_part
    from preflight.shell.launcher_options import parse_options

    parsed = parse_options((*launched, "script.py"), 0, OPTIONS, "torchrun", USAGE)
    problems.extend(parsed.problems)
    raise_if_any(problems)
    given = {key: _moved(setting, words) for key, setting in parsed.given.items()}
    if "rdzv_endpoint" in given and "rdzv_backend" not in given:
        # _add_default_rdzv_args of cli/utils/train.py
        default = Place("default", "", "axolotl")
        given["rdzv_backend"] = Setting("c10d", default)
    given = {**from_environment(command.env, problems), **given}
    index = words.script_index
    return torchrun_part(
        command, replace(parsed, given=given, first_index=index, script_index=index), problems
    )


def _moved(setting: Setting, words: AxolotlWords) -> Setting:
    """Return a setting of the launcher with the index that its word has in the whole command."""
    index = setting.place.index
    if index is None:
        return setting
    return replace(setting, place=replace(setting.place, index=words.launcher_indices[index]))
