"""LLaMA-Factory's training commands as a LaunchPlan: `llamafactory-cli train`, and its script under any launcher.

Source: launcher.py, train/tuner.py and hparams/parser.py of LLaMA-Factory 0.9.5.
"""

from __future__ import annotations

from dataclasses import replace

from preflight.errors import BadInput, Problem
from preflight.launch import LaunchCommand, LaunchPlan, Origin
from preflight.launchers.framework_keys import FrameworkKeys
from preflight.launchers.framework_launch import framework_plan, note_placeholders
from preflight.launchers.framework_library import FrameworkLibrary
from preflight.launchers.llamafactory import LAUNCHER
from preflight.launchers.llamafactory.checks import check_llamafactory, one_process_only
from preflight.launchers.llamafactory.engine import read_engine_facts
from preflight.launchers.llamafactory.keys import (
    check_unknown_keys,
    is_enabled,
    llamafactory_version,
)
from preflight.launchers.llamafactory.launch import (
    ALLOCATOR,
    cli_part,
    front,
    unread_program,
)
from preflight.launchers.llamafactory.plan import DECIDES, read_llamafactory_plan
from preflight.launchers.llamafactory.words import LlamaFactoryWords, read_words
from preflight.launchers.shipped_deepspeed import take_shipped_deepspeed
from preflight.reading import Problems
from preflight.shell.starters.launcher_part import LauncherPart


def read_llamafactory(command: LaunchCommand) -> LaunchPlan | None:
    """Return the plan of a LLaMA-Factory training command; None where it is another command."""
    problems = Problems()
    notes: tuple[Problem, ...] = ()
    first = LAUNCHER.first_argument(command.argv)
    if first is not None:
        other = unread_program(command)
        if other is not None:
            return other
        part = problems.take(cli_part(command, first))
    else:
        found = front(command)
        if found is None:
            return None
        part, notes = problems.take(found)
    words = problems.take(read_words(command, part.script_index + 1))
    if not words.given:
        usage = "llamafactory-cli train config.yaml"
        problems.append(
            Problem("the command names no config and no flags", command.argv[0], usage, "PF111")
        )
        raise BadInput(*problems)
    keys = _keys(command, part, words)
    part = _alone(keys, part)
    problems.extend(keys.problems)
    trainer = keys.finish(words.document)
    part = replace(
        part,
        name="llamafactory",
        # What the launcher in front of the script was told is written back to it.
        overrides=words.overrides,
        file_index=words.file_index,
    )
    problems.extend(notes)
    plan = framework_plan(command, part, trainer, keys, False, problems)
    if part.variables is not None and part.variables.get(ALLOCATOR) != command.env.get(ALLOCATOR):
        origin = Origin(f"default of {keys.library.label}", reason="its launcher exports it")
        plan = plan.with_origin("expandable_segments", origin)
    return plan


def _alone(keys: FrameworkKeys, part: LauncherPart) -> LauncherPart:
    """Return what starts the ranks, with the one that trains where the config is refused on several of them."""
    origin = part.origins.get("world_size")
    key = one_process_only(keys, is_zero3=False)  # DeepSpeed is refused in one process
    if key is None or origin is None or not origin.may_be or part.is_distributed:
        return part
    setting = keys.get(key[0]) or keys.get("use_badam")
    where = "" if setting is None else setting.place.where
    only = Origin(where, reason="LLaMA-Factory refuses it on several ranks")
    return replace(part, origins={**part.origins, "world_size": only})


def _keys(command: LaunchCommand, part: LauncherPart, words: LlamaFactoryWords) -> FrameworkKeys:
    packages = ("llamafactory", "llmtuner")
    library = FrameworkLibrary.of(
        "LLaMA-Factory", command, llamafactory_version(), packages=packages
    )
    keys = FrameworkKeys(library, dict(words.given), words.overridden)
    check_unknown_keys(keys, is_enabled(command.env, "ALLOW_EXTRA_ARGS"))
    note_placeholders(keys, DECIDES)
    keys.problems.extend(take_shipped_deepspeed(keys, command))
    engine = read_engine_facts(keys, part, command)
    read_llamafactory_plan(keys, engine)
    check_llamafactory(keys, engine)
    return keys
