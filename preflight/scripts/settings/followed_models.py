"""From an expression that holds a model back to the calls that made it, through variables, functions and what passes a model on."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.assignments import returned_by
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.nodes import given_to, last_name, unparse
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.running_calls import attributes_set
from preflight.scripts.python.scope import Parsed, Scope
from preflight.scripts.settings.own_model import is_inherited, named_classes
from preflight.versions.peft import PREPARING

_MODEL_CLASS = lazy_pattern(
    r"^(?:AutoModel\w*|\w+For(?:CausalLM|ConditionalGeneration|ImageTextToText|SequenceClassification|TokenClassification))$"
)

SELF = "self"

PASSES_ON = (
    "get_peft_model",
    "set_peft_model_state_dict",
    *PREPARING,
    "PeftModel",
    "setup_chat_format",
    "clone_chat_template",
    "compile",
    "to",
    "type",
    "cuda",
    "half",
    "bfloat16",
    "float",
    "train",
    "prepare",
    "FullyShardedDataParallel",
    "FSDP",
    "DistributedDataParallel",
    "DDP",
)
"""Calls that give back the model that they are given, or that they are called on."""

OF_MODELS = ("to", "type", "cuda", "half", "bfloat16", "float", "train")
"""Those that are methods of a model: what they are given is a device or a dtype."""

OF_PARAMETERS = ("parameters", "named_parameters")

MOST_STEPS = 40
"""Assignments and returns that are followed to where a model is made."""


def loads(call: CallFound) -> bool:
    """Tell whether a call loads a model of transformers."""
    func = call.node.func
    if call.name not in ("from_pretrained", "from_config") or not isinstance(func, ast.Attribute):
        return False
    named = named_classes(func.value, call.scope)
    return bool(named) and all(_MODEL_CLASS.match(last_name(each)) for each in named)


def followed(
    reader: ScriptReader, node: ast.expr, scope: Scope, ends: Collection[str] = ()
) -> Iterator[CallFound | None]:
    """Yield the calls that a value comes from; None where one of its ways ends at what is not read.

    `ends` names calls that pass a model on and are yielded all the same, in place of what came before them.
    """
    waiting, seen = [(node, scope)], set[int]()
    while waiting:
        node, scope = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if len(seen) > MOST_STEPS:
            yield None
            return
        if _is_name(reader, node, scope):
            continue
        if isinstance(node, ast.Call):
            name = last_name(node.func)
            receiver = node.func.value if isinstance(node.func, ast.Attribute) else None
            made = CallFound(name, node, scope)
            if name in ends:
                yield made
                continue
            if name in PASSES_ON or (receiver is not None and last_name(receiver) == "PeftModel"):
                inner = node.args[0] if node.args and name not in OF_MODELS else receiver
                waiting += [(inner, scope)] if inner is not None else []
                continue
            if name not in reader.functions or loads(made) or is_inherited(reader, made):
                yield made
                continue
        before = _before(reader, node, scope, is_last=bool(ends))
        if not before:
            yield None
        waiting += before


def _is_name(reader: ScriptReader, node: ast.expr, scope: Scope) -> bool:
    """Tell whether a value is the name of a model (TRL loads it then), an argument that names one, or nothing yet."""
    if isinstance(node, ast.Attribute):
        owner = reader.evaluator.value(node.value, scope)
        if isinstance(owner, Parsed):
            return True
    known = reader.evaluator.evaluate(node, scope)
    return isinstance(known.value, (str, type(None))) or bool(known.flag)


def _before(
    reader: ScriptReader, node: ast.expr, scope: Scope, *, is_last: bool
) -> list[tuple[ast.expr, Scope]]:
    """Return what a value is taken from, with the scope that it stands in; nothing where that is not read.

    `is_last` leaves out what a name held before the last statement that sets it.
    """
    if isinstance(node, ast.Subscript):  # one of several things that a call gives back
        place, called = getattr(node.slice, "value", None), node.value
        name = last_name(called.func) if isinstance(called, ast.Call) else ""
        of_call = _returned(reader, name, place) if isinstance(place, int) else []
        return of_call or [(called, scope)]
    if isinstance(node, ast.IfExp):
        return [(node.body, scope), (node.orelse, scope)]
    if isinstance(node, ast.Attribute):
        return set_to(reader, node)
    name = last_name(node.func if isinstance(node, ast.Call) else node)
    holder = None if isinstance(node, ast.Call) else scope.holder(name)
    if holder is not None and name in holder.assigned:
        at = (node.lineno, node.col_offset) if is_last and holder is scope else None
        return [(value, holder) for value in reader.evaluator.may_hold(name, holder, at)]
    if holder is not None:
        return arguments_given(reader, name, holder)
    return _returned(reader, name, 0)


def _returned(reader: ScriptReader, name: str, place: int) -> list[tuple[ast.expr, Scope]]:
    """Return what the functions of a name give back, at a place where that is a tuple: `return tokenizer, model`."""
    return [
        (_item(returned, place), own)
        for function, own in reader.functions.get(name, ())
        for returned in returned_by(function)
    ]


def set_to(reader: ScriptReader, node: ast.Attribute) -> list[tuple[ast.expr, Scope]]:
    """Return what statements that may run set an attribute to which is written so."""
    return [
        (value, own)
        for target, value, own in attributes_set(reader.possible_statements)
        if unparse(target) == unparse(node)
    ]


def function_of(reader: ScriptReader, scope: Scope) -> ast.FunctionDef | None:
    """Return the function whose block a scope is; None for a file's own, or that of a class."""
    every = (each for held in reader.functions.values() for each in held)
    return next((function for function, own in every if own is scope), None)


def arguments_given(reader: ScriptReader, name: str, scope: Scope) -> list[tuple[ast.expr, Scope]]:
    """Return what the calls of a function hand it as one of its parameters; nothing where a call does not say."""
    given: list[tuple[ast.expr, Scope]] = []
    function = function_of(reader, scope)
    if function is None:
        return given
    is_method = [each.arg for each in function.args.args[:1]] == [SELF]
    for call in reader.everywhere:
        if call.name != function.name or isinstance(call.node.func, ast.Name) == is_method:
            continue  # of this name is a method of something else
        given_here = given_to(function, call.node)
        if is_method and isinstance(call.node.func, ast.Attribute):
            given_here[SELF] = call.node.func.value
        told = given_here.get(name)
        if told is None:
            return []
        given.append((told, call.scope))
    return given


def _item(node: ast.expr, place: int) -> ast.expr:
    """Return what stands at a place of a tuple, and anything else itself."""
    return node.elts[place] if isinstance(node, ast.Tuple) and place < len(node.elts) else node
