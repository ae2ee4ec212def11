"""How the ranks of an accelerate launch are divided: nodes, shard groups, copies, tensor, context and sequence parallel.

Source: ParallelismConfig of accelerate 1.15.0 (accelerate/parallelism_config.py) and the launcher's
`num_processes // num_machines` (accelerate/utils/launch.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from preflight.errors import Problem
from preflight.formats.places import Place, Setting
from preflight.launchers.accelerate.launcher import LauncherSettings
from preflight.launchers.accelerate.worker_environment import is_on


def count_ranks(settings: LauncherSettings, problems: list[Problem]) -> dict[str, Setting]:
    """Return world_size and num_nodes as the launcher will start them."""
    processes, machines = settings.values["num_processes"], settings.values["num_machines"]
    one = Setting(1, settings.mode_place)
    num_nodes = _whole(machines, "num_machines", settings, problems)
    if settings.mode == "single":
        _check_single(settings, num_nodes, problems)
        return {"world_size": one, "num_nodes": one}
    ranks = _whole(processes, "num_processes", settings, problems)
    if ranks is None or num_nodes is None:
        return {"world_size": one, "num_nodes": one}
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
            return {"world_size": Setting(num_nodes, processes.place), "num_nodes": machines}
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
        _check_rendezvous(settings, problems)
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
    return {
        "world_size": Setting(ranks, processes.place),
        "num_nodes": Setting(num_nodes, machines.place),
    }


def _named(settings: LauncherSettings) -> str:
    names = {"fsdp": "FSDP", "deepspeed": "DeepSpeed", "multi_gpu": "multi-GPU training"}
    return names.get(settings.mode, settings.mode)


def _whole(
    setting: Setting, key: str, settings: LauncherSettings, problems: list[Problem]
) -> int | None:
    """Return a count as the launcher can use it: text works for num_processes on one node, nowhere else."""
    value = setting.value
    number = value if isinstance(value, int) and not isinstance(value, bool) else None
    if isinstance(value, str) and value.strip().isdecimal() and key == "num_processes":
        one_node = settings.value("num_machines") in (0, 1)
        if one_node and settings.mode != "single":
            number = int(value)
    if number is None and settings.mode == "single" and key == "num_processes":
        return 1
    if number == -1:
        return None  # said already
    if number == 0 and setting.place.kind == "default":
        problems.append(
            Problem(
                "the number of ranks is not known: no --num_processes, and this machine shows no GPU to count",
                settings.mode_place.where,
                "--num_processes N",
                "PF115",
            )
        )
        return None
    if number is None or number < 1:
        fix = ""
        if isinstance(value, str) and value.strip().isdecimal():
            fix = f"{key}: {value.strip()}, without quotes"
        problems.append(
            Problem(
                f"{key} must be a whole number from 1, not {value!r}",
                setting.place.where,
                fix,
                "PF111",
            )
        )
        return None
    return number


def _check_single(
    settings: LauncherSettings, num_nodes: int | None, problems: list[Problem]
) -> None:
    processes = settings.values["num_processes"]
    if isinstance(processes.value, str):
        problems.append(
            Problem(
                f"num_processes must be a number, not {processes.value!r}",
                processes.place.where,
                f"num_processes: {processes.value}",
                "PF111",
            )
        )
    elif isinstance(processes.value, int) and processes.value > 1:
        cause = "--cpu" if settings.value("cpu") else "distributed_type: NO"
        if settings.config is None and not settings.value("cpu"):
            cause = "one GPU here"
        problems.append(
            Problem(
                f"{cause} starts one process, not {processes.value}",
                processes.place.where,
                "distributed_type: MULTI_GPU, FSDP or DEEPSPEED",
                "PF106",
                "warning",
            )
        )
    if num_nodes is not None and num_nodes > 1:
        for key in ("main_process_ip", "main_process_port"):
            if settings.value(key) is None:
                problems.append(
                    Problem(
                        f"{num_nodes} nodes need {key}",
                        settings.where("num_machines"),
                        f"{key}: of the first node, or num_machines: 1",
                        "PF111",
                    )
                )


def _check_rendezvous(settings: LauncherSettings, problems: list[Problem]) -> None:
    if settings.value("machine_rank") is None:
        problems.append(
            Problem(
                "several nodes need --machine_rank",
                settings.where("num_machines"),
                "--machine_rank 0 on the first node, 1 on the next",
                "PF111",
            )
        )
    through_deepspeed = settings.mode == "deepspeed" and (
        settings.value("deepspeed_multinode_launcher") not in ("standard", "nossh")
    )
    if settings.value("main_process_ip") is None and not through_deepspeed:
        problems.append(
            Problem(
                "several nodes, but no main_process_ip: the nodes cannot find each other",
                settings.where("num_machines"),
                "main_process_ip: address of the node with machine_rank 0",
                "PF109",
                "warning",
            )
        )


SIZES = {
    "PARALLELISM_CONFIG_DP_REPLICATE_SIZE": "dp_replicate_size",
    "PARALLELISM_CONFIG_DP_SHARD_SIZE": "dp_shard_size",
    "PARALLELISM_CONFIG_TP_SIZE": "tp_size",
    "PARALLELISM_CONFIG_CP_SIZE": "cp_size",
    "PARALLELISM_CONFIG_SP_SIZE": "sp_size",
}


def read_parallelism(
    env: Mapping[str, Setting], engine: str, world_size: Setting, problems: list[Problem]
) -> dict[str, Setting]:
    """Return the degrees that `parallelism_config` states, in plan fields; empty without one."""
    if not is_on(env, "ACCELERATE_USE_PARALLELISM_CONFIG"):
        return {}
    sizes: dict[str, Setting] = {}
    for variable, name in SIZES.items():
        setting = env.get(variable, Setting("1", Place("default", "", "accelerate")))
        word = str(setting.value)
        if not word.isdecimal() or int(word) < 1:
            problems.append(
                Problem(
                    f"{name} must be a whole number from 1, not {setting.value!r}",
                    setting.place.where,
                    id="PF117",
                )
            )
            return {}
        sizes[name] = Setting(int(word), setting.place)
    replicate, shard, tp, cp, sp = (sizes[name] for name in SIZES.values())
    total = replicate.value * shard.value * tp.value * cp.value * sp.value
    if total == 1:
        return {}  # accelerate then treats it as if it were not there
    before = len(problems)

    def refuse(message: str, setting: Setting, fix: str) -> None:
        problems.append(Problem(message, setting.place.where, fix, "PF117"))

    if cp.value > 1 and sp.value > 1:
        refuse("cp_size and sp_size cannot both be above 1", sp, "parallelism_config_sp_size: 1")
    elif (tp.value > 1 or cp.value > 1) and replicate.value > 1 and shard.value == 1:
        refuse(
            "tp_size or cp_size with dp_replicate_size needs a dp_shard_size above 1",
            replicate,
            "parallelism_config_dp_replicate_size: 1",
        )
    elif cp.value > 1 and engine != "fsdp2" and not engine.startswith("zero"):
        refuse("cp_size above 1 needs FSDP with fsdp_version: 2", cp, "fsdp_version: 2")
    elif engine in ("fsdp1", "single"):
        needs = (
            "fsdp_version: 2" if engine == "fsdp1" else "distributed_type: FSDP and fsdp_version: 2"
        )
        refuse("parallelism_config does not work with this mode", _first_above_one(sizes), needs)
    elif sp.value > 1 and not engine.startswith("zero"):
        refuse("sp_size above 1 needs DeepSpeed", sp, "distributed_type: DEEPSPEED")
    elif sp.value == 1 and total != world_size.value:
        parts = " * ".join(f"{n} {s.value}" for n, s in sizes.items() if s.value > 1)
        others = total // shard.value
        fits = world_size.value % others == 0
        fix = (
            f"parallelism_config_dp_shard_size: {world_size.value // others}"
            if fits
            else f"num_processes: {total}"
        )
        refuse(
            f"{parts} = {total}, but there are {world_size.value} ranks",
            _first_above_one(sizes),
            fix,
        )
    elif engine == "fsdp2" and shard.value == 1 and cp.value == 1:
        refuse(
            "dp_shard_size and cp_size are both 1, so FSDP has nothing to shard over",
            _first_above_one(sizes),
            f"parallelism_config_dp_shard_size: {world_size.value // tp.value}, without dp_replicate_size",
        )
    if len(problems) > before:
        return {}
    fields = {
        "tensor_parallel_degree": tp,
        "context_parallel_degree": cp,
        "sequence_parallel_degree": sp,
    }
    if engine == "fsdp2":
        fields["shard_degree"] = Setting(shard.value * cp.value, shard.place)
        fields["replicate_degree"] = replicate
    return fields


def _first_above_one(sizes: Mapping[str, Setting]) -> Setting:
    return next(setting for setting in sizes.values() if setting.value > 1)


def shard_fields(
    engine: str, strategy: str, ranks: Mapping[str, Setting], place: Place
) -> dict[str, Setting]:
    """Return shard_degree and replicate_degree that follow from the engine alone."""
    world, nodes = ranks["world_size"], ranks["num_nodes"]
    one = Setting(1, place)
    if engine in ("single", "ddp", "zero0"):
        return {"shard_degree": one}
    if engine == "fsdp1" and strategy == "NO_SHARD":
        return {"shard_degree": one}
    if engine == "fsdp1" and strategy.startswith("HYBRID_SHARD"):
        per_node = world.value // nodes.value
        return {
            "shard_degree": Setting(per_node, place),
            "replicate_degree": Setting(nodes.value, place),
        }
    return {"shard_degree": Setting(world.value, world.place)}
