"""What a launch is under the other versions that its libraries may have, where nobody says them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields as dataclass_fields
from typing import Any

from preflight.engines.settings import EngineSettings
from preflight.launch import LaunchCommand, LaunchPlan, VersionReading
from preflight.launchers.script_arguments import read_script_engine
from preflight.libraries.resolve import Libraries, assumed_libraries
from preflight.scripts.arguments.trainer_versions import READ_BY_RELEASE
from preflight.shell.starters.launcher_part import LauncherPart
from preflight.trainers.arguments import TrainerArguments
from preflight.values import replace


def version_readings(
    command: LaunchCommand,
    part: LauncherPart,
    trainer: TrainerArguments,
    libraries: Libraries,
    taken: Mapping[str, str],
    values: Mapping[str, Any],
    of_script: Collection[str],
) -> tuple[VersionReading, ...]:
    """Return what the launch is under the other versions that its libraries may have.

    `of_script` are the fields that the script says whatever the release.
    """
    if all(libraries.is_known(name) for name in taken):
        return ()
    readings = []
    known: dict[tuple[bool, ...], Mapping[str, Any]] = {}
    for found in libraries.sets_of(tuple(taken)):
        versions = {**taken, **found}
        if versions == taken:
            continue
        sides = tuple(boundary.holds_in(versions) for boundary in READ_BY_RELEASE)
        if sides not in known:
            differing = _differing(command, part, trainer, versions, values)
            known[sides] = {k: v for k, v in differing.items() if k not in of_script}
        readings.append(VersionReading(versions, known[sides]))
    return tuple(reversed(readings))


def _differing(
    command: LaunchCommand,
    part: LauncherPart,
    trainer: TrainerArguments,
    versions: Mapping[str, str],
    values: Mapping[str, Any],
) -> Mapping[str, Any]:
    """Return the fields that are another under some versions, with their values there."""
    if trainer.under is None:
        return {}
    libraries = assumed_libraries(versions)
    under = replace(trainer.under(libraries), library_versions=libraries)
    other = plan_values(under, read_script_engine(command, part, under).value)
    return {
        name: other.get(name, _DEFAULTS.get(name))
        for name in (*values, *other)
        if other.get(name, _DEFAULTS.get(name)) != values.get(name, _DEFAULTS.get(name))
    }


_DEFAULTS = {f.name: f.default for f in dataclass_fields(LaunchPlan)}


def plan_values(trainer: TrainerArguments, engine: EngineSettings) -> dict[str, Any]:
    """Return plan field -> value, as the trainer's arguments and the engine's settings have them."""
    fields = {**trainer.settings, **engine.fields}
    values = {name: setting.value for name, setting in fields.items() if "." not in name}
    return values if engine.deepspeed is None else {**values, "deepspeed": engine.deepspeed}


def span_of(taken: Mapping[str, str], oldest: Mapping[str, str]) -> str:
    """Return in words which libraries may be older than those that are taken: `torch 2.4.0 to 2.13.0`."""
    moved = (
        f"{name} {oldest[name]} to {version}"
        for name, version in taken.items()
        if oldest[name] != version
    )
    return ", ".join(moved)
