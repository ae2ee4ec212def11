"""An `accelerate launch` command as a LaunchPlan: launcher, config file and environment; the script's half follows.

Order of reading: argv -> launcher options -> config file -> the workers' environment -> the trainer's
flags -> engine -> FSDP or DeepSpeed. Problems are collected all the way and raised once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from preflight.engines.data_parallel import data_parallel
from preflight.engines.settings import EngineSettings
from preflight.errors import Problem, raise_if_any
from preflight.launch import LaunchCommand, LaunchPlan, Origin, RankFacts
from preflight.launchers.accelerate.argv import first_option_index, older_notes, parse_launch
from preflight.launchers.accelerate.checks import check_beside_file
from preflight.launchers.accelerate.launcher import read_launcher_settings
from preflight.launchers.accelerate.notes import launch_notes
from preflight.launchers.accelerate.parallelism import count_ranks
from preflight.launchers.accelerate.settings import LauncherSettings
from preflight.launchers.script import make_plan
from preflight.launchers.script_arguments import (
    read_script_arguments,
    read_script_engine,
    with_ranks,
)
from preflight.libraries.resolve import libraries_of
from preflight.plan_choices import HF_TRAINERS, OPEN_VALUES
from preflight.reading import Problems, Reading
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_options import ParsedOptions
from preflight.shell.starters.launcher_part import DEFAULT_PORT, LauncherPart, caller_environment
from preflight.shell.starters.variables import (
    DEEPSPEED_IF_GIVEN,
    FSDP_ALWAYS,
    FSDP_IF_GIVEN,
    fsdp_variable,
    num_visible_devices,
)
from preflight.trainers.arguments import TrainerArguments
from preflight.unpriced_names import FLOAT8, ON_CPU
from preflight.versions.accelerate import ZERO3_IS_ON_WITHOUT_INIT


def read_accelerate_launch(command: LaunchCommand) -> LaunchPlan | None:
    """Return the plan of an `accelerate launch` command; None where it is another command.

    Raises BadInput with everything that accelerate, the trainer or a worker would refuse.
    """
    first = first_option_index(command.argv)
    if first is None:
        return None
    arguments = parse_launch(command, first)
    # The launcher stops here, and without these options the rest would only repeat it.
    raise_if_any(arguments.problems)
    return read_accelerate_arguments(command, arguments)


def read_accelerate_arguments(command: LaunchCommand, arguments: ParsedOptions) -> LaunchPlan:
    """Return the plan of a launch by accelerate whose own arguments were parsed."""
    problems = Problems(older_notes(arguments))
    settings = problems.take(read_launcher_settings(arguments, command))
    part = problems.take(accelerate_part(command, arguments, settings))
    trainer = problems.take(
        read_script_arguments(with_ranks(command, part, problems), part.script_index)
    )
    if _leaves_zero3_off(settings, trainer, command):
        facts = replace(trainer.script, zero3_is_on_at_load=False, zero_init=False)
        trainer = replace(trainer, script=facts)
    engine = problems.take(read_script_engine(command, part, trainer, problems))
    problems.extend(check_beside_file(settings, engine.deepspeed_file))
    problems.extend(launcher_notes(command, settings, part, trainer, engine, problems.refused))
    return make_plan(command, part, trainer, engine, problems)


def launcher_notes(
    command: LaunchCommand,
    settings: LauncherSettings,
    part: LauncherPart,
    trainer: TrainerArguments,
    engine: EngineSettings,
    refused: Collection[str],
) -> Iterator[Problem]:
    """Yield what is to be said of accelerate's half once the script's is read, but for places that are refused already."""
    env = {**part.env, **trainer.environment}
    yield from (n for n in launch_notes(settings, env, engine) if n.where not in refused)
    yield from _single_process_notes(command, settings, trainer)
    yield from cpu_notes(settings)
    backend = settings.values["fp8_backend"]
    precision = engine.fields.get("mixed_precision")
    if precision is not None and precision.value == "fp8" and str(backend.value).lower() == "ao":
        message = "fp8 matrices are estimated as the 16-bit ones that they are made from"
        yield Problem.left_out(message, backend.place.where, FLOAT8, "either")


def _leaves_zero3_off(
    settings: LauncherSettings, trainer: TrainerArguments, command: LaunchCommand
) -> bool:
    """Tell whether transformers knows nothing of ZeRO-3 when a loop of somebody's own loads its model."""
    flag = str(settings.value("zero3_init_flag")).lower()
    if flag != "false" or trainer.trainer in HF_TRAINERS:
        return False
    versions = {"accelerate": libraries_of(command).version("accelerate")}
    return not ZERO3_IS_ON_WITHOUT_INIT.holds_in(versions)


def _single_process_notes(
    command: LaunchCommand, settings: LauncherSettings, trainer: TrainerArguments
) -> Iterator[Problem]:
    """Say what one process does with several GPUs; `--cpu` and `gpu_ids` keep them from it."""
    if settings.mode != "single" or settings.value("cpu"):
        return
    ids = settings.value("gpu_ids")
    listed = isinstance(ids, str) and ids != "all"
    env = {**command.env, "CUDA_VISIBLE_DEVICES": str(ids)} if listed else command.env
    yield from data_parallel(trainer, num_visible_devices(env), "a launch of one process")


def cpu_notes(settings: LauncherSettings) -> Iterator[Problem]:
    """Say that one process is sent to the CPU, by a flag or a config file (accelerate/utils/launch.py:133, 1.15.0).

    No estimate of a GPU refuses it. The Trainer's own `--use_cpu` rehearses a launch that a GPU will run.
    """
    config = settings.config
    in_file = config is not None and config.values.get("use_cpu") is True
    if settings.mode == "single" and (settings.value("cpu") or in_file):
        where = config.where("use_cpu") if config and in_file else settings.where("cpu")
        yield Problem.left_out(
            "the launch trains on the CPU, in host memory: the estimate is what a GPU would take",
            where,
            ON_CPU,
            "either",
        )


def accelerate_part(
    command: LaunchCommand, arguments: ParsedOptions, settings: LauncherSettings
) -> Reading[LauncherPart]:
    """Return what accelerate's launcher decided."""
    problems = Problems((*arguments.problems, *_check_mode(settings)))
    config = settings.config
    counted = count_ranks(settings, command.is_submitted)
    ranks, said = counted.value, {problem.id for problem in arguments.problems}
    # a number that a placeholder stands for is told as that
    problems += [each for each in counted.problems if each.id != "PF115" or each.id not in said]
    port = settings.values.get("main_process_port")
    if port is None or port.value is None:
        port = Setting(DEFAULT_PORT, Place("default", "", "accelerate"))
    part = LauncherPart(
        name="accelerate",
        first_option=arguments.first_index,
        script_index=arguments.script_index,
        ranks=ranks,
        mode=settings.mode,
        mode_place=settings.mode_place,
        env=worker_environment(settings, command.env),
        origins=_assumed_ranks(settings, command),
        documents={} if config is None else {"accelerate": config.path},
        rank_facts=RankFacts(
            main_address=settings.values.get("main_process_ip"),
            meeting_port=None if settings.mode == "single" else port,
            other_port="another --main_process_port, the same on every node",
            moves_port=ranks["num_nodes"].value == 1,
            node_rank=settings.values.get("machine_rank"),
            gpu_ids=settings.values.get("gpu_ids"),
        ),
        has_engine_options=True,
        is_default_config=config is not None and config.is_default,
    )
    return Reading(part, tuple(problems))


def _check_mode(settings: LauncherSettings) -> Iterator[Problem]:
    if settings.mode in ("megatron", "tpu"):
        name = {"megatron": "Megatron-LM", "tpu": "TPU"}[settings.mode]
        yield Problem.left_out(
            f"preflight does not read {name} launches",
            settings.mode_place.where,
            "a launch that was not read",
            "either",
            "FSDP, DeepSpeed, multi-GPU and single-GPU launches are read",
            "PF125",
        )


def _assumed_ranks(settings: LauncherSettings, command: LaunchCommand) -> dict[str, Origin]:
    """Return the origins of what accelerate takes from the GPUs of the machine that it starts on."""
    if settings.config is not None or settings.value("cpu"):
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
            is_open = count == 0
            may_be = OPEN_VALUES["world_size"] if is_open else ()
            origins["world_size"] = Origin("default of accelerate", True, reason, may_be)
    return origins


_PARALLELISM = (
    "dp_replicate_size", "dp_shard_size", "tp_size", "cp_size", "cp_backend", "sp_size", "sp_backend",
)  # fmt: skip


def worker_environment(settings: LauncherSettings, caller: Mapping[str, str]) -> dict[str, Setting]:
    """Return variable -> text and its place, for the variables that accelerate and transformers read.

    Source: prepare_multi_gpu_env, prepare_deepspeed_cmd_env and prepare_extend_env_parallelism_config of
    accelerate 1.15.0 (accelerate/utils/launch.py).
    """
    env = caller_environment(caller)

    def write(name: str, option: str, lower: bool = False) -> None:
        text = str(settings.value(option))
        env[name] = Setting(text.lower() if lower else text, settings.place(option))

    write("ACCELERATE_MIXED_PRECISION", "mixed_precision", lower=True)
    if settings.mode != "deepspeed":  # that launcher leaves torch.compile out
        backend = str(settings.value("dynamo_backend")).upper()
        env["ACCELERATE_DYNAMO_BACKEND"] = Setting(backend, settings.place("dynamo_backend"))
    if settings.mode == "fsdp":
        env["ACCELERATE_USE_FSDP"] = Setting("true", settings.mode_place)
        for option, lower in FSDP_ALWAYS.items():
            write(fsdp_variable(option), option, lower)
        for option in FSDP_IF_GIVEN:
            if settings.value(option) is not None:
                write(fsdp_variable(option), option)
    if settings.mode == "deepspeed":
        env["ACCELERATE_USE_DEEPSPEED"] = Setting("true", settings.mode_place)
        for name, option in DEEPSPEED_IF_GIVEN.items():
            if settings.value(option) is not None:
                write(name, option, lower=option != "deepspeed_config_file")
    if settings.mode in ("fsdp", "deepspeed", "multi_gpu", "megatron") and (
        settings.uses_parallelism_config
    ):
        env["ACCELERATE_USE_PARALLELISM_CONFIG"] = Setting("true", settings.mode_place)
        for name in _PARALLELISM:
            option = f"parallelism_config_{name}"
            write(option.upper(), option)
    return env
