"""The engine that a script sets up itself: FSDP and DDP around its model, fully_shard, deepspeed.initialize, ranks it spawns;
and over which ranks its own FSDP call divides a model."""

from __future__ import annotations

import ast
from dataclasses import replace

from preflight.scripts.python.files import CallFound
from preflight.scripts.python.nodes import argument_of, keyword_of, unparse
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import Scope
from preflight.scripts.settings.fsdp_offload import offload_of
from preflight.scripts.settings.fsdp_units import with_units
from preflight.scripts.settings.lightning_calls import lightning_trainer, with_trainer
from preflight.scripts.settings.script_settings import OwnEngine, Said, said_of, unread_of_deepspeed
from preflight.setting import Place

WRAPPERS = {
    "FullyShardedDataParallel": "fsdp1",
    "FSDP": "fsdp1",
    "fully_shard": "fsdp2",
    "DistributedDataParallel": "ddp",
    "DDP": "ddp",
}
"""Call around a model -> the engine that it makes of it."""
RESHARDING = {"FULL_SHARD": True, "HYBRID_SHARD": True, "SHARD_GRAD_OP": False, "_HYBRID_SHARD_ZERO2": False}  # fmt: skip
SPAWNERS = ("spawn", "notebook_launcher", "start_processes", "ScalingConfig")
"""Calls that start ranks, or that Ray Train (2.40: train/v2/api/config.py) is told of them by."""
RANKS = ("nprocs", "num_processes", "num_workers")
"""What those calls name the number of ranks."""
COUNTS = ("world_size", "num_gpus", "n_gpus", "n_gpu", "ngpus", "nprocs", "num_processes", "gpus")
"""Flags by which scripts that start their ranks themselves are told how many."""


def own_engine(reader: ScriptReader) -> OwnEngine:
    """Return the engine that a script sets up; an empty one where that is none."""
    sure = [(WRAPPERS[f.name], f) for f in reader.named(*WRAPPERS)]
    maybe = [(WRAPPERS[f.name], f) for f in reader.maybe(*WRAPPERS)]
    for calls, found in ((reader.calls, sure), (reader.unsure, maybe)):
        found += [("deepspeed", f) for f in calls if _is_initialize(f)]
    every = [*sure, *maybe]
    kinds = tuple(dict.fromkeys(kind for kind, _ in every))
    engine = OwnEngine()
    if every:
        place = reader.place(every[0][1])
        is_sure = len(kinds) == 1 and bool(sure)
        engine = OwnEngine(kinds, is_sure, place)
        if is_sure and kinds[0] == "deepspeed":
            engine = _with_config(reader, sure[0][1], engine)
        elif is_sure and kinds[0] == "fsdp1":
            engine = _with_fsdp(reader, sure[-1][1], engine)
        elif is_sure and kinds[0] == "fsdp2":
            engine = with_units(reader, engine)
        if is_sure and kinds[0] in ("fsdp1", "fsdp2"):
            engine = with_group(reader, sure[-1][1], engine)
    return _with_ranks(reader, engine)


def _is_initialize(found: CallFound) -> bool:
    return found.name == "initialize" and unparse(found.node.func) == "deepspeed.initialize"


def _with_config(reader: ScriptReader, call: CallFound, engine: OwnEngine) -> OwnEngine:
    """Read `config=` of deepspeed.initialize, as far as it is a dict; a file is the launcher's matter."""
    values, _ = reader.keywords(call)
    given = next((values[n] for n in ("config", "config_params") if n in values), None)
    said = None if given is None else said_of(given)
    if said is None or not isinstance(said.value, dict):
        return engine
    unread = unread_of_deepspeed(said)
    return engine if unread is None else replace(engine, deepspeed=said, unread=unread)


def _with_fsdp(reader: ScriptReader, call: CallFound, engine: OwnEngine) -> OwnEngine:
    """Read the arguments of torch's FullyShardedDataParallel that memory depends on."""
    fields: dict[str, Said] = {}
    place = reader.place(call)
    unread: dict[str, Place] = {}
    values, is_open = reader.keywords(call)
    strategy = _strategy(call)
    if strategy is None and "sharding_strategy" not in values and not is_open:
        strategy = "FULL_SHARD"
    if strategy in RESHARDING:
        fields["reshard_after_forward"] = Said(RESHARDING[strategy], place)
    else:
        unread["reshard_after_forward"] = place
    policy = values.get("auto_wrap_policy")
    if _wraps_by_size(reader, call):
        unread["wrap_policy"] = place  # of no layer, of whole ones, or of parts
    elif policy is not None and policy.value is not None:
        fields["wrap_policy"] = Said("transformer", policy.place)
    elif not is_open:
        fields["wrap_policy"] = Said("none", place)
    offload = offload_of(reader, call, "fsdp1")
    if offload is not None:
        fields["offload_params"] = offload
    else:
        unread["offload_params"] = place
    said = strategy or "FULL_SHARD"
    return OwnEngine(engine.engines, engine.is_sure, place, fields, said, unread=unread)


def _wraps_by_size(reader: ScriptReader, call: CallFound) -> bool:
    """Tell whether FSDP is given a policy that may be size_based_auto_wrap_policy."""
    given = [each.value for each in call.node.keywords if each.arg == "auto_wrap_policy"]
    held = [each for node in given for each, _ in reader.evaluator.may_be(node, call.scope)]
    return any("size_based" in unparse(node) for node in (*given, *held))


def _strategy(call: CallFound) -> str | None:
    """Return `FULL_SHARD` of `sharding_strategy=ShardingStrategy.FULL_SHARD`."""
    node = keyword_of(call.node, "sharding_strategy")
    return node.attr if isinstance(node, ast.Attribute) else None


def _with_ranks(reader: ScriptReader, engine: OwnEngine) -> OwnEngine:
    """Read how many ranks a script starts itself: what it says, else what a flag with such a name says."""
    calls = [f for f in reader.possible(*SPAWNERS) if f.name != "spawn" or unparse(f.node.func).endswith(("mp.spawn", "multiprocessing.spawn"))]  # fmt: skip
    if not calls:
        trainer = lightning_trainer(reader)
        if trainer is None:
            return engine
        return with_trainer(reader, trainer, engine)
    call = calls[0]
    values, _ = reader.keywords(call)
    known = next((values[name] for name in RANKS if name in values), None)
    said = None if known is None else said_of(known)
    if said is None or not isinstance(said.value, int):
        flag = reader.flag_of(("num_workers",) if call.name == "ScalingConfig" else COUNTS)
        text = None if flag is None else str(flag.value)
        is_count = text is not None and text.isdecimal() and int(text) > 0
        said = Said(int(text or 0), flag.place) if is_count and flag is not None else None
    return replace(engine, spawns=reader.place(call), num_ranks=said)


OF_GROUP = {"fsdp1": ("device_mesh", "process_group"), "fsdp2": ("mesh",)}
"""Engine -> arguments of its call that say which ranks (torch/distributed/fsdp/fully_sharded_data_parallel.py and
_fully_shard/_fully_shard.py, 2.13.0)."""


def with_group(reader: ScriptReader, call: CallFound, engine: OwnEngine) -> OwnEngine:
    """Return the engine with the degrees that a mesh of the call says, and whether there may be one that is not read, or
    a strategy that divides over fewer ranks."""
    values, is_open = reader.keywords(call)
    place = reader.place(call)
    given = next(
        (
            each.value
            for each in call.node.keywords
            if each.arg in OF_GROUP[engine.engines[0]]
            and not (isinstance(each.value, ast.Constant) and each.value.value is None)
        ),
        None,
    )
    is_whole = engine.engines[0] == "fsdp2" or "reshard_after_forward" in engine.fields
    spread = [values[name].value for name in OF_GROUP[engine.engines[0]] if name in values]
    if given is None and not any(value is not None for value in spread):
        is_read = is_whole and not is_open
        return engine if is_read else replace(engine, group="perhaps")
    shape = None if given is None or not is_whole else _shape(reader, given, call.scope)
    if shape is None:
        return replace(engine, group="mesh")
    fields = {"shard_degree": Said(shape[-1], place)}
    if len(shape) == 2:
        fields["replicate_degree"] = Said(shape[0], place)
    return replace(engine, fields={**engine.fields, **fields}, group="mesh")


def _shape(reader: ScriptReader, node: ast.expr, scope: Scope) -> tuple[int, ...] | None:
    """Return the shape of `init_device_mesh("cuda", (2, 8))`, copies before shards; None where it is not read."""
    made = reader.only_call(node, scope)
    if made is None or made.name != "init_device_mesh":
        return None
    said = argument_of(made.node, 1, "mesh_shape")
    shape = None if said is None else reader.evaluator.value(said, made.scope)
    if not isinstance(shape, tuple) or len(shape) > 2:
        return None
    is_whole = all(isinstance(size, int) and size > 0 for size in shape)
    return shape if shape and is_whole else None
