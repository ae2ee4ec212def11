"""An `accelerate launch` command as a LaunchPlan: launcher, config file, environment and trainer put together.

Order of reading: argv -> launcher options -> config file -> the workers' environment -> the trainer's
flags -> engine -> FSDP or DeepSpeed. Problems are collected all the way and raised once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from preflight.dialects.accelerate_argv import first_option_index, parse_launcher_arguments
from preflight.dialects.accelerate_launcher import LauncherSettings, read_launcher_settings
from preflight.dialects.accelerate_notes import launch_notes
from preflight.dialects.engine_settings import EngineSettings, read_engine
from preflight.dialects.library_versions import installed_versions, versions_used
from preflight.dialects.parallelism import count_ranks
from preflight.dialects.settings import LaunchSource, Place, Setting
from preflight.dialects.trainer_arguments import TrainerArguments, read_trainer_arguments
from preflight.dialects.worker_environment import worker_environment
from preflight.errors import BadInput, Problem, raise_if_any
from preflight.launch import SCRIPT_DECIDES, LaunchCommand, LaunchPlan, Origin


def read_accelerate_launch(command: LaunchCommand) -> LaunchPlan | None:
    """Return the plan of an `accelerate launch` command; None where it is another command.

    Raises BadInput with everything that accelerate, the trainer or a worker would refuse.
    """
    first = first_option_index(command.argv)
    if first is None:
        return None
    problems: list[Problem] = []
    arguments = parse_launcher_arguments(command.argv, first)
    # The launcher stops here, and without these options the rest would only repeat it.
    raise_if_any(arguments.problems)
    installed = installed_versions()
    settings = read_launcher_settings(arguments, command, problems)
    _check_mode(settings, problems)
    ranks = count_ranks(settings, problems)
    trainer = _trainer(command, arguments.script_index, installed, problems)
    # TrlParser's variables are exported inside the script, over what the launcher wrote.
    env = {**worker_environment(settings, command.env), **trainer.environment}
    engine = read_engine(settings, env, trainer, ranks, command, versions_used(installed), problems)
    # A note on a value that was refused would only explain what refusing it left behind.
    refused = {problem.where for problem in problems if problem.severity == "error"}
    problems.extend(n for n in launch_notes(settings, env, engine) if n.where not in refused)
    problems = in_file_order(problems)
    raise_if_any(problems)
    return _plan(command, arguments.script_index, settings, trainer, engine, installed, problems)


def in_file_order(problems: list[Problem]) -> list[Problem]:
    """Return the problems of one file by line, files and flags in the order in which they first came up."""
    order: dict[str, int] = {}

    def key(problem: Problem) -> tuple[int, int]:
        path, _, line = problem.where.partition(":")
        rank = order.setdefault(path, len(order))
        number = line.partition(":")[0]
        return rank, int(number) if number.isdigit() else 0

    return sorted(dict.fromkeys(problems), key=key)


def _trainer(
    command: LaunchCommand, script_index: int, installed: Mapping[str, str], problems: list[Problem]
) -> TrainerArguments:
    if script_index >= len(command.argv):
        return TrainerArguments(None)
    first = script_index + 1
    script = command.argv[script_index]
    try:
        trainer = read_trainer_arguments(command.argv[first:], first, command, installed, script)
    except BadInput as error:
        problems.extend(error.problems)
        return TrainerArguments(None)
    problems.extend(trainer.notices)
    return trainer


def _check_mode(settings: LauncherSettings, problems: list[Problem]) -> None:
    if settings.mode in ("megatron", "tpu"):
        name = {"megatron": "Megatron-LM", "tpu": "TPU"}[settings.mode]
        problems.append(
            Problem(
                f"preflight does not read {name} launches",
                settings.mode_place.where,
                "FSDP, DeepSpeed, multi-GPU and single-GPU launches are read",
                "PF111",
            )
        )


def _plan(
    command: LaunchCommand,
    script_index: int,
    settings: LauncherSettings,
    trainer: TrainerArguments,
    engine: EngineSettings,
    installed: Mapping[str, str],
    problems: list[Problem],
) -> LaunchPlan:
    versions = versions_used(installed)
    fields, origins = dict(trainer.settings), dict(trainer.origins)
    for name, setting in engine.fields.items():
        fields[name] = setting
        if origins.get(name) is None or setting.place.kind != "default":
            origins[name] = origin_of(setting.place, versions)
    origins.update(_assumed_ranks(settings, command))
    origins.update(_undecided(trainer, fields))
    values: dict[str, Any] = {
        name: setting.value for name, setting in fields.items() if "." not in name
    }
    if engine.deepspeed is not None:
        values["deepspeed"] = engine.deepspeed
        origins["deepspeed"] = origin_of(engine.deepspeed_place, versions)
    expandable = _expandable_segments(command.env)
    values["expandable_segments"] = expandable.value
    origins["expandable_segments"] = origin_of(expandable.place, versions)
    fields["expandable_segments"] = expandable
    for name in engine.library_names:
        if name not in installed:
            reason = f"{name} is not installed here; defaults are those of {versions[name]}"
            origins[f"versions.{name}"] = Origin(f"{name} {versions[name]}", True, reason)
    documents = {**trainer.documents, **engine.documents}
    if settings.config is not None:
        documents["accelerate"] = settings.config.path
    plan = LaunchPlan(
        **values,
        trainer=trainer.trainer,
        versions={name: versions[name] for name in engine.library_names},
        launcher="accelerate",
        cwd=command.cwd,
        origins=origins,
        notices=tuple(problem for problem in problems if problem.severity != "error"),
        source=LaunchSource(
            command=command,
            launcher="accelerate",
            script_index=script_index,
            places=_places(fields, engine, trainer),
            documents=documents,
            facts={
                **trainer.facts,
                **engine.facts,
                "is_default_config": settings.config is not None and settings.config.is_default,
                "mode": settings.mode,
            },
        ),
    )
    raise_if_any(replace(problem, id="PF111") for problem in plan.problems())
    return plan


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


def origin_of(place: Place, versions: Mapping[str, str]) -> Origin:
    """Return a place as an Origin; a default names the library and version that it belongs to."""
    if place.kind != "default":
        return Origin(place.where)
    library, _, rest = place.key.partition(":")
    label = f"{library} {versions[library]}" if library in versions else library
    return Origin(f"default of {label}{':' + rest if rest else ''}")


SCRIPT_FIELDS = (
    "activation_checkpointing",
    "adapter",
    "attention",
    "base_quantization",
    "gradient_accumulation_steps",
    "load_dtype",
    "loss",
    "optimizer",
)
"""What a training script decides, and memory depends on."""


def _undecided(trainer: TrainerArguments, fields: Mapping[str, Setting]) -> dict[str, Origin]:
    """Return the origins of what a script of somebody's own decides and no flag of it says."""
    if trainer.trainer not in (None, "plain_loop"):
        return {}
    return {
        name: Origin(SCRIPT_DECIDES, True, _TAKEN_AS.get(name, ""))
        for name in SCRIPT_FIELDS
        if name not in fields
    }


_TAKEN_AS = {
    "adapter": "none, full fine-tuning",
    "attention": "sdpa",
    "base_quantization": "none",
    "load_dtype": "the checkpoint's own",
    "loss": "full_logits",
}
"""What the estimate takes where the plan has no value."""


def _assumed_ranks(settings: LauncherSettings, command: LaunchCommand) -> dict[str, Origin]:
    """Return the origins of what accelerate takes from the GPUs of the machine that it starts on."""
    if settings.config is not None:
        return {}
    origins: dict[str, Origin] = {}
    count = settings.num_visible_devices
    shown = f"{count} GPU" + ("" if count == 1 else "s")
    if settings.mode == "multi_gpu" and settings.mode_place.kind == "default" and count == 0:
        reason = "several processes and no mode: with more than one GPU accelerate trains with DDP"
        origins["engine"] = Origin("default of accelerate", True, reason)
    if settings.place("num_processes").kind == "default":
        if "CUDA_VISIBLE_DEVICES" in command.env:
            origins["world_size"] = Origin("$CUDA_VISIBLE_DEVICES")
        else:
            reason = f"no --num_processes: accelerate starts one process per GPU, and this machine shows {shown}"
            origins["world_size"] = Origin("default of accelerate", True, reason)
    return origins


def _expandable_segments(env: Mapping[str, str]) -> Setting:
    """Read the allocator's variable; PyTorch takes the new name first."""
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        if name in env:
            options = dict(
                part.partition(":")[::2] for part in env[name].replace(" ", "").split(",") if part
            )
            on = options.get("expandable_segments", "").lower() == "true"
            return Setting(on, Place("env", "", name))
    return Setting(False, Place("default", "", "torch"))
