"""How many ranks an accelerate launch starts, and on how many nodes.

Source: the launcher's `num_processes // num_machines` (accelerate/utils/launch.py, 1.15.0).
"""

from __future__ import annotations

from collections.abc import Iterator

from preflight.errors import Problem
from preflight.launchers.accelerate.settings import LauncherSettings
from preflight.reading import Problems, Reading
from preflight.setting import Setting


def count_ranks(settings: LauncherSettings, is_submitted: bool) -> Reading[dict[str, Setting]]:
    """Return world_size and num_nodes as the launcher will start them; who submits it says where the nodes meet."""
    processes, machines = settings.values["num_processes"], settings.values["num_machines"]
    one = Setting(1, settings.mode_place)
    problems = Problems()
    num_nodes = problems.take(_whole(machines, "num_machines", settings))
    alone = {"world_size": one, "num_nodes": one}
    if settings.mode == "single":
        problems.extend(_check_single(settings, num_nodes))
        return Reading(alone, tuple(problems))
    ranks = problems.take(_whole(processes, "num_processes", settings))
    if ranks is None or num_nodes is None:
        return Reading(alone, tuple(problems))
    if num_nodes > 1:
        if ranks < num_nodes:
            problems.append(
                Problem(
                    f"num_processes is {ranks} for {num_nodes} nodes",
                    processes.place.where,
                    "num_processes counts the ranks of all nodes together",
                    "PF105",
                )
            )
            one_each = {"world_size": Setting(num_nodes, processes.place), "num_nodes": machines}
            return Reading(one_each, tuple(problems))
        per_node = ranks // num_nodes
        if per_node * num_nodes != ranks:
            problems.append(
                Problem(
                    f"{ranks} processes on {num_nodes} nodes start as {per_node} per node: {per_node * num_nodes} ranks",
                    processes.place.where,
                    f"num_processes: {(per_node + 1) * num_nodes} or {per_node * num_nodes}",
                    "PF105",
                    "warning",
                )
            )
        ranks = per_node * num_nodes
        problems.extend([] if is_submitted else _check_rendezvous(settings))
    if ranks == 1:
        problems.append(
            Problem(
                f"{_named(settings)} with one rank shares nothing",
                processes.place.where,
                "num_processes: the number of GPUs",
                "PF108",
                "warning",
            )
        )
    counted = {
        "world_size": Setting(ranks, processes.place),
        "num_nodes": Setting(num_nodes, machines.place),
    }
    return Reading(counted, tuple(problems))


def _named(settings: LauncherSettings) -> str:
    names = {"fsdp": "FSDP", "deepspeed": "DeepSpeed", "multi_gpu": "multi-GPU training"}
    return names.get(settings.mode, settings.mode)


def _whole(setting: Setting, key: str, settings: LauncherSettings) -> Reading[int | None]:
    """Return a count as the launcher can use it: text works for num_processes on one node, nowhere else."""
    value = setting.value
    number = value if isinstance(value, int) and not isinstance(value, bool) else None
    if isinstance(value, str) and value.strip().isdecimal() and key == "num_processes":
        one_node = settings.value("num_machines") in (0, 1)
        if one_node and settings.mode != "single":
            number = int(value)
    if number is None and settings.mode == "single" and key == "num_processes":
        return Reading(1)
    if number == -1:
        return Reading(None)  # said already
    if number == 0 and setting.place.kind == "default":
        unknown = Problem(
            "the number of ranks is not known: no --num_processes, and this machine shows no GPU to count",
            settings.mode_place.where,
            "--num_processes N, or --set world_size=N before the `--`",
            "PF115",
            "warning",
        )
        return Reading(None, (unknown,))
    if number is None or number < 1:
        fix = ""
        if isinstance(value, str) and value.strip().isdecimal():
            fix = f"{key}: {value.strip()}, without quotes"
        wrong = f"{key} must be a whole number from 1, not {value!r}"
        return Reading(None, (Problem(wrong, setting.place.where, fix, "PF111"),))
    return Reading(number)


def _check_single(settings: LauncherSettings, num_nodes: int | None) -> Iterator[Problem]:
    processes = settings.values["num_processes"]
    if isinstance(processes.value, str):
        yield Problem(
            f"num_processes must be a number, not {processes.value!r}",
            processes.place.where,
            f"num_processes: {processes.value}",
            "PF111",
        )
    elif isinstance(processes.value, int) and processes.value > 1:
        cause = "--cpu" if settings.value("cpu") else "distributed_type: NO"
        if settings.config is None and not settings.value("cpu"):
            cause = "one GPU here"
        yield Problem(
            f"{cause} starts one process, not {processes.value}",
            processes.place.where,
            "distributed_type: MULTI_GPU, FSDP or DEEPSPEED",
            "PF106",
            "warning",
        )
    if num_nodes is not None and num_nodes > 1:
        for key in ("main_process_ip", "main_process_port"):
            if settings.value(key) is None:
                yield Problem(
                    f"{num_nodes} nodes need {key}",
                    settings.where("num_machines"),
                    f"{key}: of the first node, or num_machines: 1",
                    "PF111",
                )


def _check_rendezvous(settings: LauncherSettings) -> Iterator[Problem]:
    if settings.value("machine_rank") is None:
        yield Problem(
            "several nodes need --machine_rank",
            settings.where("num_machines"),
            "--machine_rank 0 on the first node, 1 on the next",
            "PF111",
        )
    through_deepspeed = settings.mode == "deepspeed" and (
        settings.value("deepspeed_multinode_launcher") not in ("standard", "nossh")
    )
    if settings.value("main_process_ip") is None and not through_deepspeed:
        yield Problem(
            "several nodes, but no main_process_ip: the nodes cannot find each other",
            settings.where("num_machines"),
            "main_process_ip: address of the node with machine_rank 0",
            "PF109",
            "warning",
        )
