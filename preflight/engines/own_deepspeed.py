"""DeepSpeed that a training script sets up itself: `deepspeed.initialize`, with a config that no argument names."""

from __future__ import annotations

import os
import re

from preflight.engines.parallelism import shard_fields
from preflight.engines.settings import EngineSettings
from preflight.errors import Problem
from preflight.launch import LaunchCommand, Origin
from preflight.plan_parts import SCRIPT_DECIDES
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_part import LauncherPart
from preflight.trainers.arguments import TrainerArguments
from preflight.values import replace

_INITIALIZES = "deepspeed.initialize("
STAGES = ("ddp", "zero1", "zero2", "zero3")
"""Engines of a DeepSpeed whose stage is not known; stage 0 holds what DDP holds."""
FSDP = ("fsdp1", "fsdp2")
OF_ARGUMENTS = {"ddp": ("zero2", "zero3", "fsdp2"), "single": ("zero2", "zero3")}
"""Engine that a launcher says -> the ends of what a trainer's arguments may make of it: FSDP asks for a launcher."""
OFFLOADS = ("none", "cpu")
STAGE_FLAG = "zero_stage"
"""A script's own flag, in DeepSpeed's examples and what was made of them."""


def own_initialize(command: LaunchCommand, script_index: int) -> Place | None:
    """Return where a script, or a file of its repository that it imports, makes its own DeepSpeed engine."""
    if script_index >= len(command.argv):
        return None
    from preflight.scripts.python.repository_files import repository_files

    for path, text in repository_files(command, command.argv[script_index]):
        start = text.find(_INITIALIZES)
        if start >= 0:
            line = text.count("\n", 0, start) + 1
            return Place("script", path, "deepspeed.initialize", line)
    return None


def open_stage(place: Place) -> Origin:
    """Return the origin of an engine that a script's own config decides."""
    reason = f"plain data parallel; {place.where} hands DeepSpeed a config of its own"
    return Origin(SCRIPT_DECIDES, True, reason, STAGES)


def opened_engine(engine: EngineSettings, place: Place) -> dict[str, Origin]:
    """Return the origins of an engine, and of what it offloads, that a trainer's arguments decide and only running tells.

    Nothing is open where something else than them says what divides the model.
    """
    plain = str(engine.fields["engine"].value)
    if plain not in ("ddp", "single"):
        return {}
    reason = f"data parallel; {place.where} sets it to something known only when it runs"
    names = STAGES[1:] if place.key == "deepspeed" else OF_ARGUMENTS[plain]
    engines = tuple(dict.fromkeys((plain, *(FSDP if place.key == "fsdp" else names))))
    offloads = (
        ("offload_params",) if place.key == "fsdp" else ("offload_params", "offload_optimizer")
    )
    return {
        "engine": Origin(SCRIPT_DECIDES, True, reason, engines),
        **{name: Origin(SCRIPT_DECIDES, True, f"none; {reason}", OFFLOADS) for name in offloads},
    }


def with_own_stage(
    engine: EngineSettings, trainer: TrainerArguments, part: LauncherPart, place: Place
) -> EngineSettings:
    """Return the engine with the stage that a flag of the script's own says, where it says one."""
    said = trainer.raw.get(STAGE_FLAG)
    stage = str(said.value) if said is not None else ""
    if said is None or stage not in ("0", "1", "2", "3"):
        return engine
    reason = f"read as engine from {said.place.key}; {place.where} makes the config"
    origins = {**engine.origins, "engine": Origin(said.place.where, False, reason)}
    return replace(_with_stage(engine, part, replace(said, value=stage)), origins=origins)


def is_open(engine: EngineSettings) -> bool:
    """Tell whether nothing but the script says what divides the model."""
    return bool(engine.fields["engine"].value == "ddp")


def is_no_file(stated: Setting, command: LaunchCommand) -> bool:
    """Tell whether what names a DeepSpeed config is neither JSON nor the path of anything here."""
    text = stated.value
    if not isinstance(text, str) or text.lstrip().startswith("{") or command.exists(text):
        return False
    return not os.path.lexists(command.resolve(text))


def named_stage(
    stated: Setting, engine: EngineSettings, part: LauncherPart
) -> tuple[EngineSettings, Problem]:
    """Return the engine where a script's own `--deepspeed zero2` is no file: the stage in the name, else an open one."""
    place = stated.place
    match = re.fullmatch(r"(?:deepspeed_)?zero[-_]?([0-3])(?:[-_]offload)?", str(stated.value))
    if match is None:
        reason = f"plain data parallel; the script's own {place.key} {stated.value} is no file here"
        origin = Origin(place.where, True, reason, STAGES)
        said = "is no file here, and the script makes its own sense of it"
    else:
        stage = replace(stated, value=match[1])
        engine = _with_stage(engine, part, stage)
        reason = f"read as engine from the name of {place.key} {stated.value}"
        origin = Origin(place.where, True, reason)
        said = f"is no file here, and is taken for ZeRO-{match[1]} by its name"
    wrong = f"{place.key} {stated.value} {said}"
    fix = "say it with --set engine=zero2"
    return (
        replace(engine, origins={**engine.origins, "engine": origin}),
        Problem(wrong, place.where, fix, "PF133", "warning"),
    )


def _with_stage(engine: EngineSettings, part: LauncherPart, stage: Setting) -> EngineSettings:
    name = f"zero{stage.value}"
    fields = {
        **engine.fields,
        "engine": Setting(name, stage.place),
        **shard_fields(name, "", part.ranks, stage.place),
    }
    return replace(engine, fields=fields, library_names=(*engine.library_names, "deepspeed"))
