"""How ranks are divided: shard groups, copies, tensor, context and sequence parallel degrees.

Source: ParallelismConfig of accelerate 1.15.0 (accelerate/parallelism_config.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from preflight.errors import Problem
from preflight.plan_choices import DIVIDES_NOTHING
from preflight.reading import Reading
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_part import LauncherPart
from preflight.shell.starters.variables import PARALLELISM_SIZES, is_on
from preflight.values import replace


def read_parallelism(
    env: Mapping[str, Setting], engine: str, world_size: Setting
) -> Reading[dict[str, Setting]]:
    """Return the degrees that `parallelism_config` states, in plan fields; empty without one."""
    read = _sizes(env)
    if read.problems or read.value is None:
        return Reading({}, read.problems)
    sizes = read.value
    replicate, shard, tp, cp, sp = (sizes[name] for name in PARALLELISM_SIZES.values())
    refusal = _refusal(sizes, engine, world_size.value)
    if refusal is not None:
        return Reading({}, (refusal,))
    fields = {
        "tensor_parallel_degree": tp,
        "context_parallel_degree": cp,
        "sequence_parallel_degree": sp,
    }
    if engine == "fsdp2":
        fields["shard_degree"] = Setting(shard.value * cp.value, shard.place)
        fields["replicate_degree"] = replicate
    return Reading(fields)


def _sizes(env: Mapping[str, Setting]) -> Reading[dict[str, Setting] | None]:
    """Return the sizes of `parallelism_config`; None without one, and where all are 1, which accelerate takes for none."""
    if not is_on(env, "ACCELERATE_USE_PARALLELISM_CONFIG"):
        return Reading(None)
    sizes: dict[str, Setting] = {}
    for variable, name in PARALLELISM_SIZES.items():
        setting = env.get(variable, Setting("1", Place("default", "", "accelerate")))
        word = str(setting.value)
        if not word.isdecimal() or int(word) < 1:
            wrong = f"{name} must be a whole number from 1, not {setting.value!r}"
            return Reading(None, (Problem(wrong, setting.place.where, id="PF117"),))
        sizes[name] = Setting(int(word), setting.place)
    return Reading(sizes if _total(sizes) > 1 else None)


def _total(sizes: Mapping[str, Setting]) -> int:
    return prod(setting.value for setting in sizes.values())


def with_counted_ranks(part: LauncherPart, env: Mapping[str, Setting]) -> LauncherPart:
    """Return the launcher's half with the ranks that `parallelism_config` asks for, where it leaves them open.

    accelerate wants as many as the product of all sizes; those of DeepSpeed's sequence parallelism only divide them
    (parallelism_config.py:372, 1.15.0).
    """
    sizes = _sizes(env).value
    if sizes is None or not part.has_open_ranks or sizes["sp_size"].value > 1:
        return part
    world = Setting(_total(sizes), _first_above_one(sizes).place)
    mode = part.mode if part.is_distributed else "multi_gpu"
    return replace(part, ranks={**part.ranks, "world_size": world}, mode=mode)


def _refusal(sizes: Mapping[str, Setting], engine: str, world_size: int) -> Problem | None:
    """Return what ParallelismConfig or the engine refuses in sizes that are not all 1."""
    replicate, shard, tp, cp, sp = (sizes[name] for name in PARALLELISM_SIZES.values())
    total = _total(sizes)

    def refused(message: str, setting: Setting, fix: str) -> Problem:
        return Problem(message, setting.place.where, fix, "PF117")

    if cp.value > 1 and sp.value > 1:
        return refused(
            "cp_size and sp_size cannot both be above 1", sp, "parallelism_config_sp_size: 1"
        )
    if (tp.value > 1 or cp.value > 1) and replicate.value > 1 and shard.value == 1:
        return refused(
            "tp_size or cp_size with dp_replicate_size needs a dp_shard_size above 1",
            replicate,
            "parallelism_config_dp_replicate_size: 1",
        )
    if cp.value > 1 and engine != "fsdp2" and not engine.startswith("zero"):
        return refused("cp_size above 1 needs FSDP with fsdp_version: 2", cp, "fsdp_version: 2")
    if engine in ("fsdp1", "single"):
        needs = (
            "fsdp_version: 2" if engine == "fsdp1" else "distributed_type: FSDP and fsdp_version: 2"
        )
        return refused(
            "parallelism_config does not work with this mode", _first_above_one(sizes), needs
        )
    if sp.value > 1 and not engine.startswith("zero"):
        return refused("sp_size above 1 needs DeepSpeed", sp, "distributed_type: DEEPSPEED")
    if sp.value == 1 and total != world_size:
        parts = " * ".join(f"{n} {s.value}" for n, s in sizes.items() if s.value > 1)
        others = total // shard.value
        fits = world_size % others == 0
        fix = (
            f"parallelism_config_dp_shard_size: {world_size // others}"
            if fits
            else f"num_processes: {total}"
        )
        return refused(
            f"{parts} = {total}, but there are {world_size} ranks", _first_above_one(sizes), fix
        )
    if engine == "fsdp2" and shard.value == 1 and cp.value == 1:
        return refused(
            "dp_shard_size and cp_size are both 1, so FSDP has nothing to shard over",
            _first_above_one(sizes),
            f"parallelism_config_dp_shard_size: {world_size // tp.value}, without dp_replicate_size",
        )
    return None


def _first_above_one(sizes: Mapping[str, Setting]) -> Setting:
    return next(setting for setting in sizes.values() if setting.value > 1)


def shard_fields(
    engine: str,
    strategy: str,
    ranks: Mapping[str, Setting],
    place: Place,
    tensor_parallel: Setting | None = None,
) -> dict[str, Setting]:
    """Return shard_degree and replicate_degree that follow from the engine alone."""
    world, nodes = ranks["world_size"], ranks["num_nodes"]
    one = Setting(1, place)
    if engine in DIVIDES_NOTHING:
        return {"shard_degree": one}
    if engine == "fsdp1" and strategy == "NO_SHARD":
        return {"shard_degree": one}
    if engine == "fsdp1" and strategy.startswith("HYBRID_SHARD"):
        per_node = world.value // nodes.value
        return {
            "shard_degree": Setting(per_node, place),
            "replicate_degree": Setting(nodes.value, place),
        }
    shared = 1 if tensor_parallel is None else tensor_parallel.value
    if shared > 1 and world.value % shared == 0:
        return {"shard_degree": Setting(world.value // shared, place)}
    return {"shard_degree": Setting(world.value, world.place)}
