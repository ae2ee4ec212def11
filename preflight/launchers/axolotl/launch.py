"""What `axolotl train` starts its ranks with: accelerate, torchrun or nothing, by the words behind its own.

Source: launch_training in cli/utils/train.py of axolotl 0.19.0.
"""

from __future__ import annotations

from dataclasses import replace

from preflight.errors import raise_if_any
from preflight.launch import LaunchCommand
from preflight.launchers.accelerate.argv import parse_launcher_arguments
from preflight.launchers.axolotl.words import AxolotlWords
from preflight.launchers.launcher_in_front import Front, accelerate_in_front
from preflight.reading import Problems, Reading
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_options import ParsedOptions
from preflight.shell.starters.launcher_part import LauncherPart


def cli_part(command: LaunchCommand, words: AxolotlWords) -> Reading[Front]:
    """Return what the launcher that `axolotl train` starts decides, with the places that the user wrote."""
    launched = tuple(command.argv[index] for index in words.launcher_indices)
    if words.launcher == "python":
        from preflight.launchers.python.plan import python_part

        place, index = words.launcher_place, words.script_index
        return Reading((python_part(command, place, index, index), ()))
    if words.launcher == "torchrun":
        part = _torchrun_part(command, words, launched)
        return Reading((part.value, ()), part.problems)
    parsed = parse_launcher_arguments((*launched, "script.py"), 0)
    raise_if_any(parsed.problems)
    given = {key: _moved(setting, words) for key, setting in parsed.given.items()}
    arguments = ParsedOptions(given, words.script_index, words.script_index)
    return accelerate_in_front(command, arguments)


def _torchrun_part(
    command: LaunchCommand, words: AxolotlWords, launched: tuple[str, ...]
) -> Reading[LauncherPart]:
    from preflight.launchers.torchrun.options import OPTIONS, from_environment
    from preflight.launchers.torchrun.plan import USAGE, torchrun_part
    from preflight.shell.starters.launcher_options import parse_options

    parsed = parse_options((*launched, "script.py"), 0, OPTIONS, "torchrun", USAGE)
    raise_if_any(parsed.problems)
    given = {key: _moved(setting, words) for key, setting in parsed.given.items()}
    if "rdzv_endpoint" in given and "rdzv_backend" not in given:
        # _add_default_rdzv_args of cli/utils/train.py
        default = Place("default", "", "axolotl")
        given["rdzv_backend"] = Setting("c10d", default)
    problems = Problems()
    given = {**problems.take(from_environment(command.env)), **given}
    index = words.script_index
    options = replace(parsed, given=given, first_index=index, script_index=index)
    part = problems.take(torchrun_part(command, options))
    return Reading(part, tuple(problems))


def _moved(setting: Setting, words: AxolotlWords) -> Setting:
    """Return a setting of the launcher with the index that its word has in the whole command."""
    index = setting.place.index
    if index is None:
        return setting
    return replace(setting, place=replace(setting.place, index=words.launcher_indices[index]))
