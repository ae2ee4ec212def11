"""A launch as a LaunchPlan, from what a launcher decided on: the script's arguments, the engine, the plan.

Every dialect reads its launcher into a LauncherPart and continues here; the half behind the script's
name is the same under each of them. Problems are collected all the way and raised once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from preflight.bool_words import is_true
from preflight.engines.own_deepspeed import opened_engine
from preflight.engines.settings import EngineSettings
from preflight.errors import Problem, raise_if_any
from preflight.launch import SCRIPT_DECIDES, LaunchCommand, LaunchPlan, Origin, TrainerFacts
from preflight.launchers.making import Making
from preflight.launchers.not_read import not_here
from preflight.launchers.other_versions import plan_values, version_readings
from preflight.libraries.resolve import libraries_of
from preflight.plan_choices import OPEN_VALUES
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_part import LauncherPart
from preflight.trainers.arguments import TrainerArguments
from preflight.unpriced_names import FLOAT8, FLOAT8_HEAD
from preflight.writers.source import LaunchSource


def _changed(before: Mapping[str, Setting], after: Mapping[str, Setting]) -> frozenset[str]:
    """Return the names of settings that came, went or became another."""
    names = before.keys() | after.keys()
    return frozenset(name for name in names if before.get(name) is not after.get(name))


def make_plan(
    command: LaunchCommand,
    part: LauncherPart,
    trainer: TrainerArguments,
    engine: EngineSettings,
    problems: Iterable[Problem],
) -> LaunchPlan:
    """Put the plan together, its origins and what its writer needs; raise BadInput where a problem is an error."""
    problems = in_file_order(problems)
    raise_if_any(problems)
    libraries = trainer.library_versions or libraries_of(command)
    making = Making(command, part, trainer, engine, problems, libraries)
    making.take_what_is_said()
    making.open_what_only_running_tells()
    frozen = None
    if not trainer.script.is_of_library:
        # What reads a script is eighty modules.
        from preflight.launchers.own_script import take_what_the_script_holds
        from preflight.trainers.frozen_parts import frozen_parts

        take_what_the_script_holds(making)
        frozen = frozen_parts(making.trainer)
    of_script = _changed(trainer.settings, making.trainer.settings)
    trainer, engine, origins = making.trainer, making.engine, making.origins
    if "engine" in trainer.script.unread:
        origins.update(opened_engine(engine, trainer.script.unread["engine"]))
    origins.update(engine.origins)
    values = plan_values(trainer, engine)
    zero_init = _zero_init(trainer, engine, origins.get("engine"))
    if zero_init is not None:
        values["zero_init"], origins["zero_init"] = zero_init
    taken = {name: making.libraries.version(name) for name in engine.library_names}
    if values.get("base_quantization") is not None and trainer.trainer != "torchtune":
        taken["bitsandbytes"] = making.libraries.version("bitsandbytes")
    has_float8 = any(problem.unpriced in (FLOAT8, FLOAT8_HEAD) for problem in making.problems)
    if has_float8 and making.libraries.is_known("torchao"):
        taken["torchao"] = making.libraries.version("torchao")
    others = version_readings(command, part, trainer, making.libraries, taken, values, of_script)
    making.note_versions(taken, others)
    if frozen is not None:
        values["vision"] = frozen.vision
        making.put("vision", Setting(frozen.vision, frozen.flag.place))
        origins["vision"] = replace(origins["vision"], may_be=frozen.may_be)
    variables = command.env if part.variables is None else part.variables
    expandable = _expandable_segments(variables, trainer.environment)
    values["expandable_segments"] = expandable.value
    making.put("expandable_segments", expandable)
    plan = LaunchPlan(
        **values,
        trainer=trainer.trainer,
        versions=taken,
        version_readings=others,
        launcher=part.name,
        cwd=command.cwd,
        origins=origins,
        notices=(
            *(problem for problem in making.problems if problem.severity != "error"),
            *not_here(command, part, trainer),
        ),
        command=command,
        documents={**trainer.documents, **engine.documents, **part.documents},
        rank_facts=part.rank_facts,
        script_facts=replace(trainer.script, index=part.script_index),
        trainer_facts=TrainerFacts(
            trainer.method,
            {**trainer.raw, **trainer.arguments},
            classes=trainer.classes,
            module=trainer.module,
        ),
        engine_facts=engine.facts,
        source=LaunchSource(part, _places(making.fields, engine, trainer)),
    )
    raise_if_any(replace(problem, id="PF111") for problem in plan.problems())
    return plan


def in_file_order(problems: Iterable[Problem]) -> list[Problem]:
    """Return the problems of one file by line, files and flags in the order in which they first came up."""
    order: dict[str, int] = {}

    def key(problem: Problem) -> tuple[int, int]:
        path, _, line = problem.where.partition(":")
        rank = order.setdefault(path, len(order))
        number = line.partition(":")[0]
        return rank, int(number) if number.isdecimal() else 0

    return sorted(dict.fromkeys(problems), key=key)


def _places(
    fields: Mapping[str, Setting], engine: EngineSettings, trainer: TrainerArguments
) -> dict[str, tuple[Place, ...]]:
    """Return every place that states a field, the deciding one first; places without a home are left out."""
    places: dict[str, tuple[Place, ...]] = {}
    for name, setting in fields.items():
        more = engine.more_places.get(name, ())
        candidates = [setting.place, *more, *trainer.places.get(name, ())]
        kept = tuple(dict.fromkeys(place for place in candidates if place.kind != "default"))
        if kept:
            places[name] = kept
    return places


def _expandable_segments(env: Mapping[str, str], of_script: Mapping[str, Setting]) -> Setting:
    """Read the allocator's variable; PyTorch takes the new name first, and a script's own value."""
    found = {name: Setting(text, Place("env", "", name)) for name, text in env.items()} | {
        **of_script
    }
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        if name in found:
            words = str(found[name].value).replace(" ", "").split(",")
            options = dict(word.partition(":")[::2] for word in words if word)
            on = is_true(options.get("expandable_segments"))
            return Setting(on, found[name].place)
    return Setting(False, Place("default", "", "torch"))


def _zero_init(
    trainer: TrainerArguments, engine: EngineSettings, origin: Origin | None
) -> tuple[bool, Origin] | None:
    """Return what a launch that is, or may be, ZeRO-3's does while its model loads; None where nobody asks, or where the
    trainer itself makes the model, after its arguments.

    `origin` is the engine's.
    """
    told, script = engine.fields.get("engine"), trainer.script
    may_be = () if origin is None else origin.may_be
    if script.is_of_library or not ((told and told.value == "zero3") or "zero3" in may_be):
        return None
    if script.zero_init is None:
        reason = "whether DeepSpeed is told of before the model is made is known only when the script runs"
        return True, Origin(SCRIPT_DECIDES, True, reason, OPEN_VALUES["zero_init"])
    return script.zero_init, Origin(script.model_at.where if script.model_at else SCRIPT_DECIDES)
