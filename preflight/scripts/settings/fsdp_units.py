"""Which units a script's own FSDP calls divide a model into, what they leave whole, and whether a unit's weights go after
its forward.

Source: torch/distributed/fsdp/_fully_shard/_fully_shard.py and fully_sharded_data_parallel.py, 2.13.0. fully_shard makes a
unit of the parameters of a module that no call has taken before: what no call is given stays whole on every rank.
"""

from __future__ import annotations

import ast
from dataclasses import replace

from preflight.launch_facts import Uncounted
from preflight.scripts.losses.own_losses import MODEL
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.nodes import argument_of, keyword_of, unparse
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.settings.fsdp_offload import offload_of
from preflight.scripts.settings.script_settings import OwnEngine, Said
from preflight.setting import Place

FSDP_WHOLE = "parameters that FSDP leaves whole"
UNSYNCED = ("no_sync", "set_requires_gradient_sync")
"""A context of FSDP1's, and a method of FSDP2's."""
GRADIENTS_WHOLE = "gradients that FSDP leaves whole"
WRAPPED = ("FullyShardedDataParallel", "FSDP", "fully_shard", "FullyShardedDataParallelPlugin")
IGNORED = ("ignored_modules", "ignored_states", "ignored_parameters", "ignored_params")
_ROOT, _PART, _OTHER = "root", "part", "other"


def with_units(reader: ScriptReader, engine: OwnEngine) -> OwnEngine:
    """Return the engine of fully_shard's calls with its units, whether they are freed after the forward, and what is kept in
    host memory."""
    calls = _units(reader)
    fields: dict[str, Said] = dict(engine.fields)
    unread: dict[str, Place] = dict(engine.unread)
    parts = [call for call, kind in calls if kind == _PART]
    if not parts:
        other = next((call for call, kind in calls if kind == _OTHER), None)
        if other is not None:
            unread["wrap_policy"] = reader.place(other)
        else:
            fields["wrap_policy"] = Said("none", reader.place(calls[0][0]))
        parts = [call for call, _ in calls]
    place = reader.place(parts[0])
    said = {_reshards(reader, call) for call in parts}
    if said == {False}:
        fields["reshard_after_forward"] = Said(False, place)
    elif said != {True}:
        unread["reshard_after_forward"] = place
    offloads = {
        None if said is None else said.value: said
        for said in (offload_of(reader, call, "fsdp2") for call, _ in calls)
    }
    (offload, *others) = offloads.values()
    if offload is None or others:
        unread["offload_params"] = place
    else:
        fields["offload_params"] = offload
    return replace(engine, fields=fields, unread=unread)


def left_whole(reader: ScriptReader) -> dict[str, Uncounted]:
    """Return what FSDP leaves whole on every rank: parameters that no unit has, gradients that it is told not to divide."""
    found = {FSDP_WHOLE: _whole_parameters(reader), GRADIENTS_WHOLE: _whole_gradients(reader)}
    return {name: Uncounted(at, "more") for name, at in found.items() if at is not None}


def _whole_parameters(reader: ScriptReader) -> Place | None:
    """Return the call that leaves parameters whole on every rank: they are ignored, or no call of fully_shard has them."""
    for call in reader.possible(*WRAPPED):
        for keyword in call.node.keywords:
            value = keyword.value
            is_none = isinstance(value, ast.Constant) and value.value is None
            is_empty = isinstance(value, (ast.List, ast.Tuple)) and not value.elts
            if keyword.arg in IGNORED and not is_none and not is_empty:
                return reader.place(call)
    units = _units(reader)
    is_without_root = bool(units) and all(kind == _PART for _, kind in units)
    return reader.place(units[0][0]) if is_without_root else None


def _whole_gradients(reader: ScriptReader) -> Place | None:
    """Return the call under which FSDP divides no gradient until a step: as many bytes as the model has, on every rank."""
    if not reader.possible(*WRAPPED):
        return None
    calls = reader.possible(*UNSYNCED)
    return reader.place(calls[0]) if calls else None


def _units(reader: ScriptReader) -> list[tuple[CallFound, str]]:
    """Return the calls of fully_shard, each with what it is given."""
    calls = reader.possible("fully_shard")
    return [(call, _kind(call)) for call in calls]


def _kind(call: CallFound) -> str:
    """Tell whether a call of fully_shard is given the model itself, a part of it, or something that is not followed."""
    node = argument_of(call.node, 0, "module")
    if node is None:
        return _OTHER
    if MODEL.match(unparse(node)):
        return _ROOT
    if isinstance(node, (ast.List, ast.Tuple, ast.Subscript, ast.Attribute)):
        return _PART
    if isinstance(node, ast.Name) and _is_turned_through(call, node.id):
        return _PART
    return _OTHER


def _is_turned_through(call: CallFound, name: str) -> bool:
    """Tell whether a name is the variable of a loop in the block of a call."""
    holder = call.scope.holder(name)
    return holder is not None and holder.changes(name)


def _reshards(reader: ScriptReader, call: CallFound) -> bool | None:
    """Return whether a unit's weights are freed after its forward; None where only running tells, or a mesh decides."""
    given = keyword_of(call.node, "reshard_after_forward")
    if given is None:
        return None if any(each.arg is None for each in call.node.keywords) else True
    if isinstance(given, ast.Compare):
        return True  # of all layers but the last, as torchtitan does
    value = reader.evaluator.value(given, call.scope)
    return True if value is None else value if isinstance(value, bool) else None
