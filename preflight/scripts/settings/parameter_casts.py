"""The dtype that a script casts its model's parameters to one by one, `for p in model.parameters(): p.data = p.data.float()`, or
module by module, `model.apply(lambda m: m.float())`."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.nodes import last_name, names_in, unparse, walk
from preflight.scripts.python.python_calls import DTYPE_NAMES
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN, Known, Scope
from preflight.scripts.settings.adapter_calls import adapts
from preflight.scripts.settings.by_call import CASTS, is_quantized
from preflight.scripts.settings.script_settings import ScriptSettings
from preflight.setting import Place

OF_FEW = lazy_pattern(
    r"\bndim\b|\.dim\(\)|\.shape|\.numel\(\)|norm|\bln_|bias|router|lora|adapter|tuner",
    re.IGNORECASE,
)
"""Conditions under which only vectors are cast, or an adapter's own matrices, which PEFT keeps in fp32 itself. A `gate` is a
router's of few numbers in one model, and in another a third of every MLP."""
OF_OTHERS = lazy_pattern(r"\bnot\b|!=|(?:ndim|\.dim\(\)|len\([\w.]*shape\)) *>")
"""What makes such a condition one of all others: `"norm" not in name`, `p.ndim > 1`."""
OF_ONE = lazy_pattern(r"^(?:\w+\.)*\w*model\.")
"""A parameter that is named by its place in the model, and no loop's: changed_parts.WIDE_PART."""
OF_MODULES = lazy_pattern(r"\b(?:named_)?modules\(\)")
OF_MOST = lazy_pattern(r"^(?:[\w.]*requires_grad|[\w.]*\bdtype\b.*|[\w.]*is_floating_point\(\))$")
"""Conditions that hold of every parameter of a model in 16 bits that is trained whole."""


def read_parameter_casts(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Read what a loop over parameters makes of their dtype, after the model was loaded.

    Of a packed base it casts what is not packed, as PEFT's preparation does.
    """
    if "model" not in settings.seen:
        return
    for found in reader.named("prepare_model_for_kbit_training"):
        # Of a base that is not packed it casts all in 16 bits (peft/utils/other.py, 0.12 to 0.21.2).
        if is_quantized(settings) is False:
            settings.put("dtype", Known("float32", reader.place(found)))
    adapting = [call for call in reader.possible_calls if adapts(reader, call)]
    for node, scope, dtype in (*_of_parameters(reader), *_of_modules(reader)):
        tests = _tests_above(reader, node, scope)
        trains_alone = any("requires_grad" in test for test in tests)
        if any(map(_is_of_few, tests)):
            continue
        if trains_alone and any(_comes_before(call, node, scope) for call in adapting):
            continue
        place = Place("script", scope.path, "data", node.lineno)
        known = Known(dtype if all(map(OF_MOST.match, tests)) else UNKNOWN, place)
        packed = is_quantized(settings)
        if packed is False:
            settings.put("dtype", known)
        elif dtype == "float32" and packed and known.value is not UNKNOWN:
            settings.put("kbit_preparation", Known(True, place))
        elif dtype == "float32":
            settings.doubt("kbit_preparation", place)


def _comes_before(call: CallFound, node: ast.stmt | ast.expr, scope: Scope) -> bool:
    """Tell whether a call may run before a statement: not one further down in the same block."""
    return call.scope is not scope or call.node.lineno < node.lineno


def _is_of_few(test: str) -> bool:
    """Tell whether a condition holds of few parameters: either way of an `or` does, and none that names what is left out."""
    return all(map(OF_FEW.search, test.split(" or "))) and not OF_OTHERS.search(test)


def _of_parameters(reader: ScriptReader) -> Iterator[tuple[ast.stmt | ast.expr, Scope, object]]:
    """Yield the statements that cast a parameter, with the dtype."""
    for node, scope in reader.possible_statements:
        dtype = _cast_to(reader, node, scope)
        if dtype is not None:
            yield node, scope, dtype


def _of_modules(reader: ScriptReader) -> Iterator[tuple[ast.stmt | ast.expr, Scope, object]]:
    """Yield the calls that make a module fp32 in a loop over modules, or in a function that every module is given to; what
    makes one smaller is left as dear as it was."""
    applied = list(_applied(reader))
    for found in reader.possible_calls:
        func = found.node.func
        if found.name not in ("to", "float") or not isinstance(func, ast.Attribute):
            continue
        is_wide = found.name == "float" or any(
            reader.evaluator.value(each, found.scope) == "float32"
            for each in (*found.node.args, *(keyword.value for keyword in found.node.keywords))
        )
        loops = [
            (names_in(above.target), above)
            for statement in reader.body_of(found.scope)
            for above in walk(statement)
            if isinstance(above, ast.For) and OF_MODULES.search(unparse(above.iter))
        ]
        for targets, around in (*loops, *applied) if is_wide else ():
            if unparse(func.value) in targets and any(found.node is n for n in walk(around)):
                yield found.node, found.scope, "float32"


def _applied(reader: ScriptReader) -> Iterator[tuple[Collection[str], ast.AST]]:
    """Yield the functions that `model.apply(...)` gives every module to, each with the name that it has of one."""
    for found in reader.possible_calls:
        if found.name == "apply" and isinstance(found.node.func, ast.Attribute):
            for given in found.node.args[:1]:
                named = reader.functions.get(last_name(given), ())
                for function in (given, *(function for function, _ in named)):
                    if isinstance(function, ast.Lambda | ast.FunctionDef):
                        yield [each.arg for each in function.args.args[:1]], function


def _cast_to(reader: ScriptReader, node: ast.Assign, scope: Scope) -> object:
    """Return the dtype that `p.data = p.data.to(...)` gives; None where a statement is none of that kind."""
    target, made = node.targets[0], node.value
    if not isinstance(target, ast.Attribute) or target.attr != "data":
        return None
    if last_name(target.value) == "grad" or OF_ONE.match(unparse(target.value)):
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


def _tests_above(reader: ScriptReader, node: ast.AST, scope: Scope) -> list[str]:
    """Return the conditions inside the block of a statement under which it stands, each part of an `and`, as text."""
    return [
        unparse(part)
        for statement in reader.body_of(scope)
        for above in walk(statement)
        if isinstance(above, ast.If | ast.IfExp) and any(node is inner for inner in walk(above))
        for part in _parts(above.test)
    ]


def _parts(test: ast.expr) -> list[ast.expr]:
    is_and = isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And)
    return test.values if is_and and isinstance(test, ast.BoolOp) else [test]
