"""A `torchrun` command as a LaunchPlan: its options and PET_* variables; the script's half follows.

Source: parse_args and config_from_args of torch 2.13 (torch/distributed/run.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from preflight.errors import Problem, raise_if_any
from preflight.launch import LaunchCommand, LaunchPlan, Origin, RankFacts
from preflight.launchers.accelerate.environment_notes import environment_notes
from preflight.launchers.script import make_plan
from preflight.launchers.script_arguments import (
    read_script_arguments,
    read_script_engine,
    with_ranks,
)
from preflight.launchers.torchrun import LAUNCHER
from preflight.launchers.torchrun.options import OPTIONS, USE_ENV, from_environment
from preflight.reading import Problems, Reading
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_options import (
    ParsedOptions,
    parse_options,
    stands_for,
    unset_count,
)
from preflight.shell.starters.launcher_part import DEFAULT_PORT, LauncherPart, caller_environment
from preflight.shell.starters.program_names import called
from preflight.shell.starters.variables import num_visible_devices

USAGE = "torchrun [options] train.py [arguments of train.py]"
DEFAULT = Place("default", "", "torch")
SCRIPT_MAKES_ENGINE = (
    "torchrun starts the ranks and the script decides how they train; plain data parallel is taken"
)


def read_torchrun(command: LaunchCommand) -> LaunchPlan | None:
    """Return the plan of a torchrun launch; None where it is another command."""
    first = LAUNCHER.first_argument(command.argv)
    if first is None:
        return None
    problems = Problems()
    options = parse_torchrun(command, first)
    raise_if_any(options.problems)
    part = problems.take(torchrun_part(command, options))
    trainer = problems.take(
        read_script_arguments(with_ranks(command, part, problems), part.script_index)
    )
    engine = problems.take(read_script_engine(command, part, trainer, problems))
    if trainer.trainer is None and engine.fields["engine"].place == part.mode_place:
        assumed = Origin("torchrun", True, SCRIPT_MAKES_ENGINE)
        part = replace(part, origins={**part.origins, "engine": assumed})
    problems.extend(environment_notes(part.env, str(engine.fields["engine"].value)))
    return make_plan(command, part, trainer, engine, problems)


def parse_torchrun(command: LaunchCommand, first: int) -> ParsedOptions:
    """Return torchrun's options from the command line and, for those not on it, from PET_* variables."""
    what = called(command.argv)
    is_old = what is not None and what.name == "torch.distributed.launch"
    options = (*OPTIONS, USE_ENV) if is_old else OPTIONS
    parsed = parse_options(command.argv, first, options, "torchrun", USAGE, library="torch")
    problems = Problems(parsed.problems)
    given = {**problems.take(from_environment(command.env)), **parsed.given}
    return replace(parsed, given=given, problems=tuple(problems))


def torchrun_part(command: LaunchCommand, options: ParsedOptions) -> Reading[LauncherPart]:
    """Return what torchrun decides: how many ranks there are, on how many nodes."""
    given, origins = options.given, {}
    problems = Problems()
    least, most = problems.take(_nodes(given))
    per_node = problems.take(_per_node(command, given))
    if per_node.place.kind == "default" and per_node.place.key.startswith("torch:"):
        counted = f"--nproc-per-node {given['nproc_per_node'].value} counts the GPUs of the machine that it starts on: {per_node.value} here"
        origins["world_size"] = Origin("default of torch", True, counted)
    if most.value > least.value:
        problems.append(
            Problem(
                f"{least.value} to {most.value} nodes may join: the estimate is for {least.value}, where a rank holds most",
                least.place.where,
                severity="info",
                id="PF132",
            )
        )
    if most.value > 1 and not command.is_submitted:
        problems.extend(_check_rendezvous(given, least.place))
    # The flag that says more is the one a person looks for.
    place = per_node.place if per_node.place.kind != "default" else least.place
    if least.value > 1 and per_node.value == 1:
        place = least.place
    launcher = Place("argv", "", "torchrun", index=0)
    part = LauncherPart(
        name="torchrun",
        first_option=options.first_index,
        script_index=options.script_index,
        ranks={"world_size": Setting(least.value * per_node.value, place), "num_nodes": least},
        mode="multi_gpu",
        mode_place=launcher,
        env=caller_environment(command.env),
        origins=origins,
        rank_facts=RankFacts(
            main_address=given.get("master_addr"),
            meeting_port=_meeting_port(given, least),
            other_port="another --master-port, or none on one node: torchrun then finds a free one",
            node_rank=given.get("node_rank"),
        ),
    )
    return Reading(part, tuple(problems))


def _meeting_port(given: Mapping[str, Setting], num_nodes: Setting) -> Setting | None:
    """Return the port of a static rendezvous; torchrun finds a free one in every other case."""
    others = ("rdzv_endpoint", "standalone")
    is_static = given.get("rdzv_backend", Setting("static", DEFAULT)).value == "static"
    if not is_static or any(given[name].value for name in others if name in given):
        return None
    if "master_port" not in given and num_nodes.value == 1:
        return None  # torch/distributed/run.py:1003, 2.13
    return given.get("master_port", Setting(DEFAULT_PORT, DEFAULT))


def _nodes(given: Mapping[str, Setting]) -> Reading[tuple[Setting, Setting]]:
    setting = given.get("nnodes", Setting("1:1", DEFAULT))
    words = str(setting.value).split(":")
    try:
        numbers = [int(word) for word in words]
    except ValueError:
        numbers = []
    if len(numbers) in (1, 2) and 0 < numbers[0] <= numbers[-1]:
        least, most = numbers[0], numbers[-1]
        return Reading((Setting(least, setting.place), Setting(most, setting.place)))
    one = Setting(1, setting.place)
    if all(map(stands_for, words)) or stands_for(str(setting.value)):
        return Reading((one, one), (unset_count("--nnodes", str(setting.value)),))
    problem = Problem(
        f"nnodes must be a number of nodes or MIN:MAX, not {setting.value!r}",
        setting.place.where,
        "--nnodes 2, or --nnodes 1:4 for an elastic job",
        "PF111",
    )
    return Reading((one, one), (problem,))


def _per_node(command: LaunchCommand, given: Mapping[str, Setting]) -> Reading[Setting]:
    setting = given.get("nproc_per_node", Setting("1", DEFAULT))
    word = str(setting.value)
    if word in ("auto", "gpu"):
        count = num_visible_devices(command.env)
        if count == 0:
            unknown = Problem(
                f"the number of ranks is not known: nproc_per_node {word} counts GPUs, and this machine shows none",
                setting.place.where,
                "--nproc-per-node N, or --set world_size=N before the `--`",
                "PF115",
                "warning",
            )
            return Reading(Setting(1, setting.place), (unknown,))
        if "CUDA_VISIBLE_DEVICES" in command.env:
            return Reading(Setting(count, Place("env", "", "CUDA_VISIBLE_DEVICES")))
        return Reading(Setting(count, Place("default", "", f"torch: {word}")))
    try:
        number = int(word)
    except ValueError:
        number = 0
    if stands_for(word):
        return Reading(Setting(1, setting.place), (unset_count("--nproc-per-node", word),))
    if number < 1:
        cpu = word in ("cpu", "xpu")
        wrong = Problem(
            f"preflight does not count {word} workers"
            if cpu
            else f"nproc_per_node must be a number of ranks, gpu or auto, not {word!r}",
            setting.place.where,
            "--nproc-per-node N",
            "PF111",
        )
        return Reading(Setting(1, setting.place), (wrong,))
    return Reading(Setting(number, setting.place))


def _check_rendezvous(given: Mapping[str, Setting], nodes: Place) -> Iterator[Problem]:
    """Say where several nodes are told no address at which they could meet."""
    backend = str(given["rdzv_backend"].value) if "rdzv_backend" in given else "static"
    endpoint = str(given["rdzv_endpoint"].value) if "rdzv_endpoint" in given else ""
    fix = "--rdzv-endpoint HOST:PORT of the first node"
    if given.get("standalone", Setting(False, DEFAULT)).value:
        message = "--standalone is for one node: the nodes cannot find each other"
        fix = "--rdzv-backend c10d --rdzv-endpoint HOST:PORT instead of --standalone"
    elif backend == "static" and not endpoint:
        address = given.get("master_addr")
        if address is not None and address.value not in ("localhost", "127.0.0.1"):
            return
        where = "no --master-addr" if address is None else f"--master-addr {address.value}"
        message = f"several nodes, but {where}: the nodes cannot find each other"
        fix = "--master-addr HOST of the first node"
    elif endpoint.partition(":")[0] in ("", "localhost", "127.0.0.1"):
        shown = f"--rdzv-endpoint {endpoint}" if endpoint else "no --rdzv-endpoint"
        message = f"several nodes, but {shown}: the nodes cannot find each other"
    else:
        return
    yield Problem(message, nodes.where, fix, "PF109", "warning")
