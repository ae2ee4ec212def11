"""The last steps of reading a framework's launch: engine, plan, and the allocator setting that its launcher exports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from preflight.engines.settings import EngineSettings
from preflight.errors import Problem
from preflight.launch import LaunchCommand, LaunchPlan, Origin, ScriptFacts
from preflight.launchers.framework_keys import FrameworkKeys
from preflight.launchers.placeholders import is_placeholder
from preflight.launchers.script import make_plan
from preflight.launchers.script_arguments import read_script_engine
from preflight.libraries.resolve import Libraries, libraries_of
from preflight.reading import Problems
from preflight.scripts.arguments.trainer_versions import LibraryVersions
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_part import LauncherPart
from preflight.shell.starters.variables import num_visible_devices
from preflight.trainers.arguments import TrainerArguments

NO_SCRIPT = ScriptFacts()
ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")


def framework_plan(
    command: LaunchCommand,
    part: LauncherPart,
    trainer: TrainerArguments,
    keys: FrameworkKeys,
    sets_allocator: bool,
    of_keys: Iterable[Problem],
    spreads_model: bool = False,
) -> LaunchPlan:
    """Return the plan; `sets_allocator` says that the framework's own launcher turns expandable segments on, and
    `spreads_model` that one process which sees several GPUs takes them all by device_map."""
    problems = Problems(of_keys)
    if "optimizer" not in trainer.settings and not keys.is_unknown("optim"):
        trainer = _with_trainers_optimizer(trainer, libraries_of(command))
    reading = read_script_engine(command, part, trainer, problems)
    engine = reading.value
    problems.extend(_softened(problem) for problem in reading.problems)
    env = {**part.env, **trainer.environment}
    if not part.may_be_distributed and "ACCELERATE_USE_FSDP" in trainer.environment:
        problems.append(
            Problem(
                "FSDP is asked for, and one process shards nothing",
                env["ACCELERATE_USE_FSDP"].place.where,
                "more ranks, or no fsdp_config",
                "PF108",
                "warning",
            )
        )
    if not part.is_distributed and not spreads_model:
        from preflight.engines.data_parallel import data_parallel

        problems.extend(data_parallel(trainer, num_visible_devices(command.env), keys.library.name))
    plan = make_plan(command, part, trainer, engine, problems)
    if sets_allocator and not any(name in command.env for name in ALLOCATOR):
        plan = with_expandable_segments(plan, keys)
    return plan


def with_expandable_segments(plan: LaunchPlan, keys: FrameworkKeys) -> LaunchPlan:
    """Return a plan whose ranks get expandable segments from the framework's own launcher."""
    origin = Origin(f"default of {keys.library.label}", reason="its launcher exports it")
    return replace(plan, expandable_segments=True).with_origin("expandable_segments", origin)


def own_loop_plan(
    command: LaunchCommand,
    part: LauncherPart,
    keys: FrameworkKeys,
    trainer: str,
    told_by: str,
    of_keys: Iterable[Problem],
    document: str | None = None,
    library: str = "",
    script: ScriptFacts = NO_SCRIPT,
) -> LaunchPlan:
    """Return the plan of a framework whose training loop and engine are its own.

    `told_by` is what names the trainer, `library` whose release decides it where that is not the trainer's name.
    """
    keys.origins["trainer"] = Origin(told_by)
    arguments = TrainerArguments(
        trainer=trainer,
        raw=keys.given,
        arguments=keys.arguments,
        settings=keys.settings,
        origins=keys.origins,
        places=keys.places,
        documents={} if document is None else {"trainer": document},
        script=script,
    )
    engine = EngineSettings(fields=dict(part.ranks), library_names=("torch", library or trainer))
    return make_plan(command, part, arguments, engine, of_keys)


def _with_trainers_optimizer(trainer: TrainerArguments, libraries: Libraries) -> TrainerArguments:
    """Return a launch that names no optimizer with the one that transformers has in its release, and torch in its own."""
    versions = LibraryVersions(libraries)
    label = versions.label("transformers")
    setting = Setting(versions.default_optimizer(), Place("default", "", label))
    origin = Origin(f"default of {label}", True, "no optim")
    return replace(
        trainer,
        settings={**trainer.settings, "optimizer": setting},
        origins={**trainer.origins, "optimizer": origin},
        under=lambda others: _with_trainers_optimizer(trainer, others),
    )


def _softened(problem: Problem) -> Problem:
    """Return FSDP's and the trainer's checkpointing as a warning: frameworks recompute in their own way beside FSDP's switch."""
    return replace(problem, severity="warning") if problem.id == "PF203" else problem


def note_placeholders(keys: FrameworkKeys, decides: Mapping[str, str]) -> None:
    """Say which plan fields a placeholder leaves unknown; `decides` is key -> plan field."""
    for name, setting in keys.given.items():
        if is_placeholder(setting):
            plan_field = decides.get(name)
            about = f": {plan_field} is not known" if plan_field else ""
            keys.note(
                "PF142",
                f"{name} is {setting.value}, which another program fills in{about}",
                setting,
                f"--set {plan_field}=VALUE" if plan_field else "",
                "warning" if plan_field else "info",
            )
