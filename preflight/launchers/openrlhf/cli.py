"""OpenRLHF's trainers as a LaunchPlan: `deepspeed --module openrlhf.cli.train_sft` and its kin under any launcher.

Source: cli/train_{sft,dpo,rm,ppo_ray}.py of OpenRLHF 0.3.8 to 0.11.2.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from preflight.launch import LaunchCommand, LaunchPlan
from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.launchers.framework_launch import framework_plan, note_placeholders
from preflight.launchers.framework_library import FrameworkLibrary
from preflight.launchers.launcher_in_front import launcher_in_front
from preflight.launchers.openrlhf import READ, trainer_of
from preflight.launchers.openrlhf.plan import (
    DECIDES,
    Defaults,
    open_attention,
    read_loss,
    read_trainer,
)
from preflight.launchers.openrlhf.ray import is_packed, ray_ranks, read_ray, step_of_actor
from preflight.launchers.openrlhf.table import rows_of, short
from preflight.launchers.unread import unread
from preflight.reading import Problems
from preflight.scripts.arguments.trainer_tables import ArgumentTable
from preflight.trainers.argv import ParserRules, parse_argv
from preflight.values import dataclass


@dataclass(frozen=True)
class OpenRlhfOwn:
    """What the writer needs to know of a launch."""

    trainer: str
    releases: tuple[str, ...]
    """The one that it has, or the oldest and the newest that its arguments allow."""


def read_openrlhf(command: LaunchCommand) -> LaunchPlan | None:
    """Return the plan of a trainer of OpenRLHF's; None where it is another command."""
    found = launcher_in_front(command, lambda index: trainer_of(command.argv[index]) is not None)
    if found is None:
        return None
    problems = Problems()
    part, notes = problems.take(found)
    trainer = trainer_of(command.argv[part.script_index]) or ""
    if trainer not in READ:
        message = f"OpenRLHF's {trainer} trainer is not read"
        return unread(command, message, command.argv[part.script_index])
    rows = rows_of(trainer)
    indexed = list(enumerate(command.argv))[part.script_index + 1 :]
    parsed = parse_argv(indexed, ArgumentTable(rows.arguments(), {}), ParserRules())
    problems.extend(parsed.problems)
    library = FrameworkLibrary.of("OpenRLHF", command, rows.newest_with(tuple(parsed.known)))
    keys = FrameworkKeys(library, {short(name): one for name, one in parsed.known.items()})
    for name, setting in parsed.unknown.items():
        message = f"OpenRLHF's {trainer} trainer had no argument {name!r} in any release up to {rows.newest}"
        keys.leave_out(NotModelled(message, f"an argument named {name}", "either"), setting)
    note_placeholders(keys, DECIDES)
    first = library.version if library.is_known else rows.oldest_with(tuple(parsed.known))
    had_switch = "flash_attn" in rows.rows and rows.has("flash_attn", first)
    defaults = _default_of(keys, trainer)
    said = Defaults(keys, defaults)
    is_on_ray = trainer == "ppo_ray"
    if is_on_ray:
        part = ray_ranks(part, said)
    read_trainer(keys, part, trainer, defaults)
    if is_on_ray:
        read_ray(said, int(part.ranks["world_size"].value))
    has_kernel = is_on_ray and is_packed(said)
    if had_switch and not has_kernel and keys.get("flash_attn", "attn_implementation") is None:
        open_attention(keys)
    step = step_of_actor(said, first) if is_on_ray else read_loss(keys, trainer, defaults, first)
    problems.extend(keys.problems)
    told = keys.finish(None, names_release=False)
    # Actor and get_llm_for_sequence_regression make an HfDeepSpeedConfig before the model where the stage is 3
    script = replace(told.script, step_loss=step, zero_init=True)
    told = replace(told, trainer="plain_loop", script=script)
    spans = (library.version,) if library.is_known else (first, library.version)
    part = replace(
        part,
        name="openrlhf",
        has_engine_options=False,
        overrides=keys.words,
        own=OpenRlhfOwn(trainer, spans),
    )
    problems.extend(notes)
    return framework_plan(command, part, told, keys, False, problems)


def _default_of(keys: FrameworkKeys, trainer: str) -> dict[str, Any]:
    """Return the defaults of the release at hand, by the short names."""
    rows, version = rows_of(trainer), keys.library.version
    return {
        short(name): rows.default(name, version) for name in rows.rows if rows.has(name, version)
    }
