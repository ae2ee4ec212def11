"""A `deepspeed` command as a LaunchPlan: hosts and slots of the launcher; the script names the DeepSpeed config."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from preflight.engines.own_deepspeed import open_stage, own_initialize
from preflight.errors import Problem, raise_if_any
from preflight.launch import LaunchCommand, LaunchPlan, Origin, RankFacts
from preflight.launchers.accelerate.environment_notes import environment_notes
from preflight.launchers.deepspeed import LAUNCHER
from preflight.launchers.deepspeed.launcher import OPTIONS, Slots, rank_variables, read_slots
from preflight.launchers.script import make_plan
from preflight.launchers.script_arguments import (
    read_script_arguments,
    read_script_engine,
    with_ranks,
)
from preflight.plan_choices import HF_TRAINERS, OPEN_VALUES
from preflight.reading import Problems, Reading
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_options import ParsedOptions, parse_options
from preflight.shell.starters.launcher_part import DEFAULT_PORT, LauncherPart, caller_environment
from preflight.trainers.arguments import TrainerArguments

USAGE = "deepspeed [options] train.py [arguments of train.py]"
CONFIG_FLAGS = ("deepspeed_config", "deepspeed", "ds_config")
"""Arguments of a script of one's own that name DeepSpeed's config (deepspeed.add_config_arguments, and custom)."""


def read_deepspeed_launch(command: LaunchCommand) -> LaunchPlan | None:
    """Return the plan of a launch by `deepspeed`; None where it is another command."""
    first = LAUNCHER.first_argument(command.argv)
    if first is None:
        return None
    options = parse_options(command.argv, first, OPTIONS, "deepspeed", USAGE, library="deepspeed")
    raise_if_any(options.problems)
    slots = read_slots(command, options)
    part = _part(command, options, slots)
    problems = Problems(options.problems)
    of_ranks = tuple(_of_ranks(command, part, slots, problems))
    said = (*problems, *of_ranks)
    trainer = problems.take(
        read_script_arguments(with_ranks(command, part, said), part.script_index)
    ).changed_by(_with_config)
    if "autotuning" in options.given:
        trainer = trainer.changed_by(_without_config_file)
        problems.append(_tuned(options.given["autotuning"]))
    engine = problems.take(read_script_engine(command, part, trainer, said))
    if not str(engine.fields["engine"].value).startswith("zero"):
        own = own_initialize(command, part.script_index)
        problems.append(_without_config(own))
        if trainer.trainer is None and own is None:
            reason = "the script may make a DeepSpeed config itself; plain data parallel is taken"
            engine_origin = Origin("deepspeed", True, reason, OPEN_VALUES["engine"])
            part = replace(part, origins={**part.origins, "engine": engine_origin})
        elif own is not None:
            part = replace(part, origins={**part.origins, "engine": open_stage(own)})
    problems.extend(of_ranks)
    problems.extend(environment_notes(part.env, str(engine.fields["engine"].value)))
    return make_plan(command, part, trainer, engine, problems)


def _without_config(own: Place | None) -> Problem:
    """Return what is to be said where no argument names a config: the script's own, or plain data parallel."""
    if own is not None:
        return Problem(
            "the script hands DeepSpeed a config of its own, and its ZeRO stage is not read",
            own.where,
            "say it with --set engine=zero2",
            "PF133",
            "warning",
        )
    return Problem(
        "the deepspeed launcher starts this script, but no argument names a DeepSpeed config: plain data parallel is taken",
        "deepspeed",
        "--deepspeed ds.json behind the script's name",
        "PF133",
        "warning",
    )


def deepspeed_in_front(
    command: LaunchCommand, is_ours: Callable[[int], bool]
) -> Reading[LauncherPart] | None:
    """Return what the launcher decides; None unless it starts what `is_ours` knows at an argv index."""
    first = LAUNCHER.first_argument(command.argv)
    if first is None:
        return None
    options = parse_options(command.argv, first, OPTIONS, "deepspeed", USAGE, library="deepspeed")
    if options.script_index >= len(command.argv) or not is_ours(options.script_index):
        return None
    raise_if_any(options.problems)
    slots = read_slots(command, options)
    part = _part(command, options, slots)
    said = options.problems
    return Reading(part, (*said, *_of_ranks(command, part, slots, said)))


def _of_ranks(
    command: LaunchCommand, part: LauncherPart, slots: Slots, said: Iterable[Problem]
) -> Iterator[Problem]:
    """Yield what is to be said of how many ranks start, and of what reaches those of other nodes."""
    if slots.is_unknown and not any(problem.id == "PF115" for problem in said):
        yield Problem(
            "the number of ranks is not known: no hostfile, no --num_gpus, and this machine shows no GPU",
            "deepspeed",
            "--num_gpus N, or --set world_size=N before the `--`",
            "PF115",
            "warning",
        )
    if slots.spans_nodes:
        yield from _lost_variables(command, part)


def _part(command: LaunchCommand, options: ParsedOptions, slots: Slots) -> LauncherPart:
    origins = {}
    if slots.is_counted_here:
        reason = f"no --num_gpus: deepspeed starts one rank per GPU, and this machine shows {slots.num_ranks}"
        origins["world_size"] = Origin("default of deepspeed", True, reason)
    variables = rank_variables(command, slots)
    default = Setting(DEFAULT_PORT, Place("default", "", "deepspeed"))
    port = options.given.get("master_port", default)
    return LauncherPart(
        name="deepspeed",
        first_option=options.first_index,
        script_index=options.script_index,
        ranks={
            "world_size": Setting(slots.num_ranks, slots.place),
            "num_nodes": Setting(len(slots.hosts), slots.nodes_place),
        },
        mode="multi_gpu",
        mode_place=Place("argv", "", "deepspeed", index=0),
        env=caller_environment(variables),
        variables=variables if slots.spans_nodes else None,
        origins=origins,
        rank_facts=RankFacts(
            main_address=options.given.get("master_addr"),
            meeting_port=port,
            other_port=f"--master_port {int(port.value) + 1}, or another free one",
            ranks_by_host={host: len(ids) for host, ids in slots.hosts.items()},
        ),
    )


def _with_config(trainer: TrainerArguments) -> TrainerArguments:
    """Return the arguments of a script of one's own with the DeepSpeed config that one of its flags names."""
    if trainer.trainer in HF_TRAINERS:
        return trainer
    for name in CONFIG_FLAGS:
        setting = trainer.raw.get(name)
        if setting is not None and isinstance(setting.value, str) and setting.value:
            return replace(trainer, arguments={**trainer.arguments, "deepspeed": setting})
    return trainer


def _without_config_file(trainer: TrainerArguments) -> TrainerArguments:
    arguments = {name: each for name, each in trainer.arguments.items() if name != "deepspeed"}
    return replace(trainer, arguments=arguments)


def _tuned(stated: Setting) -> Problem:
    """Say that the file is where the autotuner starts from: it tries stages and micro batches of its own."""
    return Problem(
        "the autotuner trains with ZeRO stages and micro batches of its own choice, whatever the file says",
        stated.place.where,
        "check the launch with the settings that it found",
        severity="warning",
        unpriced="what the autotuner tries",
        takes="either",
    )


def _lost_variables(command: LaunchCommand, part: LauncherPart) -> Iterator[Problem]:
    """Say which variables of this shell do not reach the ranks on other nodes."""
    wanted = [
        name
        for name in sorted(command.env)
        if (name in caller_environment(command.env) or name.startswith("PYTORCH_"))
        and name not in (part.variables or {})
    ]
    for name in wanted:
        yield Problem(
            f"${name} of this shell does not reach the ranks: deepspeed exports few variables to several nodes",
            f"${name}",
            f"a line {name}={command.env[name]} in .deepspeed_env",
            "PF134",
            "warning",
        )
