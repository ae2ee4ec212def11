"""`oumi distributed torchrun` and `oumi distributed accelerate`: a rank per GPU of every node that the surroundings name.

Source: _detect_process_run_info, torchrun and accelerate in cli/distributed_run.py of oumi 0.9.
"""

from __future__ import annotations

from dataclasses import replace

from preflight.errors import Problem, raise_if_any
from preflight.launch import LaunchCommand, Origin
from preflight.launchers.accelerate.argv import parse_launcher_arguments
from preflight.launchers.launcher_in_front import accelerate_in_front
from preflight.launchers.oumi import NAME, TRAIN
from preflight.launchers.python.plan import python_part
from preflight.launchers.torchrun.plan import parse_torchrun, torchrun_part
from preflight.plan_choices import OPEN_VALUES
from preflight.reading import Problems, Reading
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_part import LauncherPart
from preflight.shell.starters.variables import num_visible_devices

DEFAULT = Place("default", "", NAME)
OWN_COUNTS = ("nproc_per_node", "num_processes")
"""Options of torchrun and accelerate that stand behind oumi's own, and so beat them."""


def started_part(command: LaunchCommand, at: int) -> Reading[LauncherPart | None]:
    """Return the ranks of the launcher that is named at an argv index; None where it starts no training of oumi's."""
    argv = command.argv
    launcher = argv[at] if at < len(argv) else ""
    problems = Problems()
    if launcher == "torchrun":
        options = parse_torchrun(command, at + 1)
    elif launcher == "accelerate":
        options = parse_launcher_arguments(argv, at + 2)
    else:
        return Reading(None)
    script = options.script_index
    if argv[script : script + 2] != (NAME, TRAIN):
        return Reading(None)
    raise_if_any(options.problems)
    if launcher == "torchrun":
        part = problems.take(torchrun_part(command, options))
    else:
        part, notes = problems.take(accelerate_in_front(command, options))
        problems.extend(notes)
    if any(name in options.given for name in OWN_COUNTS):
        return Reading(part, tuple(problems))
    # what the launcher says of its own counts does not hold: oumi gives it them
    rest = (problem for problem in problems if problem.id not in ("PF115", "PF117"))
    counted = _with_ranks(command, part, launcher)
    return Reading(counted.value, (*rest, *counted.problems))


def _with_ranks(
    command: LaunchCommand, part: LauncherPart, launcher: str
) -> Reading[LauncherPart | None]:
    """Return what starts the ranks with as many as oumi finds GPUs; one process alone where that is one."""
    nodes, per_node = _counted(command)
    origins = {name: origin for name, origin in part.origins.items() if name != "world_size"}
    if per_node is None:
        reason = "it starts a rank per GPU, and this machine shows none: one is taken"
        origins["world_size"] = Origin(DEFAULT.where, True, reason, OPEN_VALUES["world_size"])
        message = "the number of ranks is not known: oumi counts GPUs, and this machine shows none"
        fix = "--set world_size=N before the `--`"
        problem = Problem(message, f"{NAME} distributed", fix, "PF115", "warning")
        one = {"world_size": Setting(1, DEFAULT), "num_nodes": nodes}
        return Reading(replace(part, ranks=one, origins=origins), (problem,))
    if nodes.value * per_node.value == 1 and launcher == "torchrun":
        return Reading(python_part(command, per_node.place, part.script_index, part.script_index))
    ranks = {
        "world_size": Setting(nodes.value * per_node.value, per_node.place),
        "num_nodes": nodes,
    }
    mode = "multi_gpu" if part.mode == "single" else part.mode
    return Reading(replace(part, ranks=ranks, origins=origins, mode=mode))


def without_one_rank(part: LauncherPart) -> LauncherPart:
    """Return ranks that nobody counted as two or more: one process alone sets up no FSDP, and is another launch."""
    origin = part.origins.get("world_size")
    if origin is None or 1 not in origin.may_be:
        return part
    reason = "it starts a rank per GPU, and this machine shows none: two are taken, for one alone trains without FSDP"
    several = tuple(count for count in origin.may_be if count != 1)
    origins = {**part.origins, "world_size": replace(origin, reason=reason, may_be=several)}
    return replace(part, ranks={**part.ranks, "world_size": Setting(2, DEFAULT)}, origins=origins)


def _counted(command: LaunchCommand) -> tuple[Setting, Setting | None]:
    """Return how many nodes there are, and how many GPUs each has where that can be told."""
    env = command.env
    nodes, per_node = Setting(1, DEFAULT), None
    if "SKYPILOT_NODE_RANK" in env:
        name = "SKYPILOT_NODE_IPS"
        nodes = Setting(max(1, len(env.get(name, "").split())), Place("env", "", name))
        per_node = _number(env.get("SKYPILOT_NUM_GPUS_PER_NODE"), "SKYPILOT_NUM_GPUS_PER_NODE")
    elif "SLURM_NODELIST" in env:
        nodes = _number(env.get("SLURM_NNODES"), "SLURM_NNODES") or nodes
    visible = num_visible_devices(env)
    if per_node is None and visible:
        per_node = Setting(visible, Place("env", "", "CUDA_VISIBLE_DEVICES"))
    return nodes, per_node


def _number(text: str | None, name: str) -> Setting | None:
    is_number = text is not None and text.isdigit() and int(text) > 0
    return Setting(int(str(text)), Place("env", "", name)) if is_number else None
