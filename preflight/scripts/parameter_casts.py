"""The dtype that a script casts its model's parameters to one by one: `for p in model.parameters(): p.data = p.data.float()`."""

from __future__ import annotations

import ast
import re

from preflight.scripts.adapter_calls import adapts
from preflight.scripts.by_call import CASTS, is_quantized
from preflight.scripts.files import last_name
from preflight.scripts.nodes import unparse, walk
from preflight.scripts.reader import ScriptReader
from preflight.scripts.scope import UNKNOWN, Known, Scope
from preflight.scripts.script_settings import ScriptSettings
from preflight.scripts.values import DTYPE_NAMES
from preflight.setting import Place

OF_FEW = re.compile(
    r"\bndim\b|\.dim\(\)|\.shape|\.numel\(\)|norm|\bln_|bias|gate|lora|adapter", re.IGNORECASE
)
"""Conditions under which only vectors are cast, or an adapter's own matrices, which PEFT keeps in fp32 itself."""
OF_MOST = re.compile(r"^(?:[\w.]*requires_grad|[\w.]*\bdtype\b.*|[\w.]*is_floating_point\(\))$")
"""Conditions that hold of every parameter of a model in 16 bits that is trained whole."""


def read_parameter_casts(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Read what a loop over parameters makes of their dtype, after the model was loaded.

    Of a packed base it casts what is not packed, as PEFT's preparation does.
    """
    if "model" not in settings.seen:
        return
    has_adapter = any(adapts(reader, call) for call in (*reader.calls, *reader.unsure))
    for node, scope in (*reader.statements, *reader.unsure_statements):
        dtype = _cast_to(reader, node, scope)
        if dtype is None:
            continue
        tests = _tests_above(reader, node, scope)
        trains_alone = any("requires_grad" in test for test in tests)
        if any(map(OF_FEW.search, tests)) or (trains_alone and has_adapter):
            continue
        place = Place("script", scope.path, "data", node.lineno)
        known = Known(dtype if all(map(OF_MOST.match, tests)) else UNKNOWN, place)
        packed = is_quantized(settings)
        if packed is False:
            settings.put("dtype", known)
        elif dtype == "float32":
            is_sure = packed and known.value is not UNKNOWN
            settings.put("kbit_preparation", Known(True if is_sure else UNKNOWN, place))


def _cast_to(reader: ScriptReader, node: ast.Assign, scope: Scope) -> object:
    """Return the dtype that `p.data = p.data.to(...)` gives; None where a statement is none of that kind."""
    target, made = node.targets[0], node.value
    if not isinstance(target, ast.Attribute) or target.attr != "data":
        return None
    if last_name(target.value) == "grad":
        return None
    if not isinstance(made, ast.Call) or not isinstance(made.func, ast.Attribute):
        return None
    if unparse(made.func.value) not in (unparse(target), unparse(target.value)):
        return None
    if made.func.attr in CASTS:
        return CASTS[made.func.attr]
    named = [each.value for each in made.keywords if each.arg == "dtype"]
    named += [each for each in made.args if "dtype" in unparse(each)]
    told = [reader.evaluator.value(each, scope) for each in (*made.args, *named)]
    dtypes = [each for each in told if each in DTYPE_NAMES]
    is_cast = made.func.attr == "to" and (dtypes or named)
    return (dtypes[0] if dtypes else UNKNOWN) if is_cast else None


def _tests_above(reader: ScriptReader, node: ast.Assign, scope: Scope) -> list[str]:
    """Return the conditions inside the block of a statement under which it stands, as text."""
    return [
        unparse(part)
        for statement in reader.body_of(scope)
        for above in walk(statement)
        if isinstance(above, ast.If) and any(node is inner for inner in walk(above))
        for part in (above.test.values if isinstance(above.test, ast.BoolOp) else [above.test])
    ]
