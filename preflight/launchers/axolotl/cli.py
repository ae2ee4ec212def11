"""axolotl's training commands as a LaunchPlan: `axolotl train`, and its module under accelerate, torchrun or python.

Source: launch_training in cli/utils/train.py and do_cli in cli/train.py of axolotl 0.19.0: the command starts
`accelerate launch LAUNCHER_WORDS -m axolotl.cli.train FILE --key=value ...`.
"""

from __future__ import annotations

from dataclasses import replace

from preflight.errors import BadInput, raise_if_any
from preflight.formats.document import Document
from preflight.formats.load import read_document
from preflight.formats.missing import refuse_address
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.launchers.accelerate.argv import parse_launcher_arguments
from preflight.launchers.axolotl import LAUNCHER
from preflight.launchers.axolotl.checks import check_axolotl
from preflight.launchers.axolotl.engine import name_open_degrees, read_axolotl_engine
from preflight.launchers.axolotl.keys import axolotl_table, note_unknown_keys
from preflight.launchers.axolotl.plan import DECIDES, read_axolotl_plan
from preflight.launchers.axolotl.words import AxolotlWords, split_cli, split_fire
from preflight.launchers.framework_keys import FrameworkKeys, settings_of
from preflight.launchers.framework_launch import framework_plan, note_placeholders
from preflight.launchers.framework_library import FrameworkLibrary
from preflight.launchers.launcher_in_front import Front, accelerate_in_front, launcher_in_front
from preflight.launchers.shipped_deepspeed import take_shipped_deepspeed
from preflight.reading import Problems, Reading
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_options import ParsedOptions
from preflight.shell.starters.launcher_part import LauncherPart

TRAIN_MODULES = ("axolotl.cli.train", "scripts.finetune")


def read_axolotl(command: LaunchCommand) -> LaunchPlan | None:
    """Return the plan of an axolotl training command; None where it is another command."""
    first = LAUNCHER.first_argument(command.argv)
    problems = Problems()
    if first is not None:
        words = problems.take(split_cli(command.argv, first))
        raise_if_any(problems)
        part, notes = problems.take(cli_part(command, words))
    else:
        found = launcher_in_front(command, lambda index: command.argv[index] in TRAIN_MODULES)
        if found is None:
            return None
        part, notes = problems.take(found)
        words = problems.take(split_fire(command.argv, part.script_index))
    if words.config is None:
        raise BadInput(*problems)
    document = _document(command, words.config)
    problems.extend(document.problems)
    library = FrameworkLibrary.of("axolotl", command, axolotl_table()["version"])
    keys = _keys(command, library, words, document)
    name_open_degrees(keys, part)
    problems.extend(keys.problems)
    trainer = keys.finish(document)
    indices = {key: s.place.index for key, s in words.overrides.items()}
    part = replace(
        part,
        name="axolotl",
        overrides=indices,
        file_index=words.config_index,
        has_engine_options=False,  # its config sets the engine in every worker
    )
    problems.extend(notes)
    # Only the command line's own program exports the allocator's setting (cli/main.py).
    return framework_plan(command, part, trainer, keys, first is not None, problems)


def _document(command: LaunchCommand, path: str) -> Document:
    refuse_address(path)
    # Whatever its name, axolotl loads it as YAML.
    return read_document(command, path, "yaml", stated_at=path)


def _keys(
    command: LaunchCommand, library: FrameworkLibrary, words: AxolotlWords, document: Document
) -> FrameworkKeys:
    given = settings_of(document)
    overridden: dict[str, tuple[Place, ...]] = {}
    for key, setting in words.overrides.items():
        parent, _, child = key.partition(".")
        if not child:
            if key in given:
                overridden[key] = (given[key].place,)
            given[key] = setting
            continue
        section = given.get(parent, Setting({}, setting.place))
        inside = dict(section.value) if isinstance(section.value, dict) else {}
        given[parent] = Setting({**inside, child: setting.value}, section.place)
    keys = FrameworkKeys(library, given, overridden)
    if not given:
        keys.refuse("the config is empty", Setting(None, Place("yaml", document.path, "")))
        return keys
    note_unknown_keys(keys)
    note_placeholders(keys, DECIDES)
    keys.problems.extend(take_shipped_deepspeed(keys, command))
    read_axolotl_plan(keys)
    read_axolotl_engine(keys, document, words.overrides)
    check_axolotl(keys)
    return keys


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

    parsed = parse_options((*launched, "script.py"), 0, OPTIONS, "torchrun", USAGE, library="torch")
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
