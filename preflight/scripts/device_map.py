"""The device_map that a training script loads its model with, and whether transformers knows of ZeRO-3 by then."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping

from preflight.scripts.dataclass_fields import dataclass_types
from preflight.scripts.files import CallFound, last_name
from preflight.scripts.meanings import PARSES_DATACLASSES
from preflight.scripts.order import runs_before
from preflight.scripts.reader import ScriptReader
from preflight.scripts.scope import Known, Scope
from preflight.scripts.script_settings import Said, said_of

MAKES_CONFIG = ("Accelerator", "HfDeepSpeedConfig", "HfTrainerDeepSpeedConfig")
"""What tells transformers of DeepSpeed beside the Trainer's arguments: from then on ZeRO-3 is on for from_pretrained
(accelerate/utils/dataclasses.py:1488, transformers/integrations/deepspeed.py:79; 1.15.0 and 5.24.0)."""
DEVICES = ("device", "process_index", "local_process_index", "local_rank", "rank")
"""Attributes that name a device or a rank, in torch, accelerate and scripts: never None where a model is loaded."""
MAKES_VALUE = ("device", "dict", "int", "str", "infer_auto_device_map", "current_device")
"""Functions that never return None: torch.device, torch.cuda.current_device, accelerate's map."""


def device_map_of(
    reader: ScriptReader, loading: CallFound, values: Mapping[str, Known]
) -> Said | None:
    """Return the device_map of a from_pretrained; None where it has none, or one that may be None."""
    known = values.get("device_map")
    if known is None:
        return None
    said = said_of(known)
    if said is not None and not said.left_out:
        return None if said.value is None else said
    written = next((k.value for k in loading.node.keywords if k.arg == "device_map"), None)
    if written is None or not _is_some(written, loading.scope, isinstance(known.value, dict)):
        return None
    return Said(ast.unparse(written), known.place)


def _is_some(node: ast.expr, scope: Scope, is_dict: bool) -> bool:
    """Tell whether an expression surely has a value that is not None, whatever it is."""
    if is_dict or isinstance(node, (ast.Dict, ast.List, ast.Tuple, ast.JoinedStr, ast.BinOp)):
        return True
    if isinstance(node, ast.Attribute):
        return node.attr in DEVICES
    if isinstance(node, ast.Call):
        return last_name(node.func) in MAKES_VALUE
    if isinstance(node, ast.Name):
        written = scope.assigned.get(node.id, [])
        is_once = len(written) == 1 and node.id not in scope.unclear
        return (
            is_once and not isinstance(written[0], ast.Name) and _is_some(written[0], scope, False)
        )
    return False


def zero3_is_on(reader: ScriptReader, loading: CallFound) -> bool | None:
    """Tell whether transformers knows of DeepSpeed when a model is loaded; None where the order is not known."""
    makers = list(_makers(reader, reader.calls))
    if any(runs_before(reader, maker, loading) for maker in makers):
        return True
    unsure = _makers(reader, reader.unsure)
    is_after = all(runs_before(reader, maker, loading) is False for maker in (*makers, *unsure))
    return False if is_after else None


def _makers(reader: ScriptReader, calls: Iterable[CallFound]) -> Iterable[CallFound]:
    """Return the calls that tell transformers of DeepSpeed."""
    makes_arguments = reader.trainer_names()
    parsed = {
        last_name(node)
        for found in reader.everywhere
        if found.name in reader.dataclass_parsers
        for node in dataclass_types(found.node, found.scope)
    }
    names = {
        *MAKES_CONFIG,
        *makes_arguments,
        *(PARSES_DATACLASSES if parsed & makes_arguments else ()),
    }
    return [found for found in calls if found.name in names]
