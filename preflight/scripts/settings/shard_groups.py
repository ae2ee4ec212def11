"""Over which ranks a script's own FSDP call divides a model: all of them, those of a mesh, or ranks that only running tells."""

from __future__ import annotations

import ast
from dataclasses import replace

from preflight.scripts.python.files import CallFound
from preflight.scripts.python.nodes import argument_of
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import Scope
from preflight.scripts.settings.script_settings import OwnEngine, Said

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
