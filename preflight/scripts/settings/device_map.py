"""The device_map that a training script loads its model with."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from preflight.scripts.python.files import CallFound
from preflight.scripts.python.nodes import keyword_of, last_name, unparse
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import Known, Scope
from preflight.scripts.settings.script_settings import Said, said_of

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
    written = keyword_of(loading.node, "device_map")
    if written is None or not _is_some(written, loading.scope, isinstance(known.value, dict)):
        return None
    return Said(unparse(written), known.place)


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
        is_once = len(written) == 1 and not scope.changes(node.id)
        return (
            is_once and not isinstance(written[0], ast.Name) and _is_some(written[0], scope, False)
        )
    return False
