"""How ranks are divided: shard groups, copies, tensor, context and sequence parallel degrees.

Source: ParallelismConfig of accelerate 1.15.0 (accelerate/parallelism_config.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from preflight.errors import Problem
from preflight.setting import Place, Setting
from preflight.shell.variables import is_on

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
