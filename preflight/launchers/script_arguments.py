"""What the words behind a script's name say, with how many ranks it is read, and the engine that it, its words and its launcher set up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from preflight.engines.own_deepspeed import (
    is_no_file,
    is_open,
    named_stage,
    own_initialize,
    with_own_stage,
)
from preflight.engines.read import read_engine
from preflight.engines.settings import EngineSettings
from preflight.errors import BadInput, Problem
from preflight.launch import LaunchCommand
from preflight.libraries.resolve import libraries_of
from preflight.reading import Problems, Reading
from preflight.shell.starters.launcher_part import UNSAID_RANKS, LauncherPart
from preflight.trainers.arguments import TrainerArguments, read_trainer_arguments


def read_script_arguments(
    command: LaunchCommand,
    script_index: int,
    script: str | None = None,
    not_its_own: frozenset[int] = frozenset(),
) -> Reading[TrainerArguments]:
    """Return what the words behind the script say; nothing, and the problems, where they cannot be read.

    `script` is its name where argv has another word for it, `not_its_own` the argv indices of words
    among its own that are the launcher's.
    """
    if script_index >= len(command.argv):
        return Reading(TrainerArguments(None))
    first = script_index + 1
    script = script or command.argv[script_index]
    words, libraries = command.argv[first:], libraries_of(command)
    try:
        trainer = read_trainer_arguments(words, first, command, libraries, script, not_its_own)
    except BadInput as error:
        return Reading(TrainerArguments(None), error.problems)
    return Reading(replace(trainer, library_versions=libraries), trainer.notices)


def with_ranks(
    command: LaunchCommand, part: LauncherPart, problems: Iterable[Problem]
) -> LaunchCommand:
    """Return a command whose script is read with the WORLD_SIZE that its launcher sets, where that is known."""
    if command.is_submitted or _has_open_ranks(part, problems):
        return command
    ranks = part.ranks["world_size"].value if part.is_distributed else 0
    return replace(command, num_ranks=ranks)


def _has_open_ranks(part: LauncherPart, problems: Iterable[Problem]) -> bool:
    origin = part.origins.get("world_size")
    is_said = origin is None or not origin.may_be
    return not is_said or any(each.id in ("PF115", "PF132") for each in problems)


def read_script_engine(
    command: LaunchCommand,
    part: LauncherPart,
    trainer: TrainerArguments,
    said: Iterable[Problem] = (),
) -> Reading[EngineSettings]:
    """Return what trains: the trainer's own DeepSpeed and FSDP arguments, else the launcher's mode.

    `said` is what the launcher's reader found: a number of ranks that it does not know contradicts no batch.
    """
    problems = Problems()
    if _has_open_ranks(part, said) and not part.has_open_ranks:
        part = replace(part, origins={**part.origins, "world_size": UNSAID_RANKS})
    named = trainer.arguments.get("deepspeed")
    # a library's module has no file of its own that would tell in which folder the launch runs
    is_elsewhere = bool(trainer.module) or not trainer.is_sure
    if named is not None and is_elsewhere and is_no_file(named, command):
        others = {name: each for name, each in trainer.arguments.items() if name != "deepspeed"}
        trainer = replace(trainer, arguments=others)
    else:
        named = None
    libraries = trainer.library_versions or libraries_of(command)
    engine = problems.take(read_engine(part, trainer, command, libraries))
    if named is not None and is_open(engine):
        engine, notice = named_stage(named, engine, part)
        return Reading(engine, (*problems, notice))
    own = own_initialize(command, part.script_index) if is_open(engine) else None
    if own is not None:
        engine = with_own_stage(engine, trainer, part, own)
    return Reading(engine, tuple(problems))
