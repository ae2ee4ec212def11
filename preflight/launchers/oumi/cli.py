"""oumi's training commands as a LaunchPlan: `oumi train`, its module under a launcher, and `oumi distributed`.

Source: cli/train.py, cli/distributed_run.py and builders/training.py of oumi 0.9. A process may hold 95 % of its GPU
(limit_per_process_memory), which is more than `fits` ever takes (preflight/verdict.py).
"""

from __future__ import annotations

from dataclasses import replace

from preflight.launch import LaunchCommand, LaunchPlan
from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.launchers.framework_launch import framework_plan, note_placeholders
from preflight.launchers.framework_library import FrameworkLibrary
from preflight.launchers.launcher_in_front import launcher_in_front
from preflight.launchers.oumi import LAUNCHER, NAME, STARTS_OTHERS, TRAIN
from preflight.launchers.oumi.distributed import started_part, without_one_rank
from preflight.launchers.oumi.engine import read_engine
from preflight.launchers.oumi.keys import check_unknown_keys, or_default, oumi_version
from preflight.launchers.oumi.plan import DECIDES, METHODS, read_trainer
from preflight.launchers.oumi.words import USAGE, OumiWords, read_words
from preflight.launchers.python.plan import python_part
from preflight.launchers.unread import unread
from preflight.libraries.resolve import libraries_of
from preflight.reading import Problems, Reading
from preflight.setting import Place
from preflight.shell.starters.launcher_part import LauncherPart
from preflight.shell.starters.variables import num_visible_devices

OVER_DEVICES = "a model divided over the devices of one process"


def read_oumi(command: LaunchCommand) -> LaunchPlan | None:
    """Return the plan of a training of oumi's; None where it is another command."""
    problems = Problems()
    part = problems.take(_part(command))
    if part is None:
        return None
    words = problems.take(read_words(command, part.script_index + 2))
    if words.document is None:
        return _without_config(command, words)
    library = FrameworkLibrary.of(NAME, command, oumi_version())
    keys = FrameworkKeys(library, dict(words.given), words.overridden)
    check_unknown_keys(keys)
    note_placeholders(keys, DECIDES)
    kind = or_default(keys, "training.trainer_type")
    if kind.value not in METHODS:
        return unread(command, f"oumi's trainer {kind.value} is not read", kind.place.where)
    is_checkpointed = read_engine(keys, part)
    part = without_one_rank(part) if keys.environment else part
    method = METHODS[str(kind.value)]
    trainer = read_trainer(keys, method, libraries_of(command), is_checkpointed)
    trainer = replace(
        trainer,
        documents={"trainer": words.document.path},
        libraries=(*trainer.libraries, NAME) if library.is_known else trainer.libraries,
    )
    part = replace(part, name=LAUNCHER.name, file_index=words.config_index, overrides=keys.words)
    spreads = _spreads(command, keys, part)
    problems.extend(keys.problems)
    return framework_plan(command, part, trainer, keys, False, problems, spreads_model=spreads)


def _part(command: LaunchCommand) -> Reading[LauncherPart | None]:
    """Return what starts the ranks; its script is the word `oumi`, and `train` stands behind it."""
    argv = command.argv
    first = LAUNCHER.first_argument(argv)
    if first is not None and argv[first] == STARTS_OTHERS:
        return started_part(command, first + 1)
    if first is not None:
        place = Place("argv", "", argv[0], index=0)
        return Reading(python_part(command, place, first, first - 1))
    found = launcher_in_front(command, lambda index: argv[index : index + 2] == (NAME, TRAIN))
    if found is None:
        return Reading(None)
    part, notes = found.value
    return Reading(part, (*found.problems, *notes))


def _spreads(command: LaunchCommand, keys: FrameworkKeys, part: LauncherPart) -> bool:
    """Tell whether one process takes all GPUs that it sees by device_map; name that where they may be several."""
    devices = or_default(keys, "model.device_map")
    if part.is_distributed or devices.value != "auto" or keys.environment:
        return False
    if num_visible_devices(command.env) != 1:
        message = "device_map auto divides the model over the GPUs that the process sees; one holds all of it here"
        keys.leave_out(NotModelled(message, OVER_DEVICES, "less"), devices)
    return True


def _without_config(command: LaunchCommand, words: OumiWords) -> LaunchPlan:
    """Return the plan of a launch whose config is not here."""
    if not words.config:
        return unread(command, "the command names no config", "oumi train", USAGE)
    message = "oumi downloads this config, and preflight reads files only"
    fix = f"`oumi fetch {words.config}`, and -c with the file"
    return unread(command, message, words.config, fix)
