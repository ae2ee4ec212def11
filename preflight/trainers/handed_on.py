"""What a method of a class hands to the one of the same name above it, and what a constructor sets beside."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.nodes import children, last_name, root_of, targets_of, unparse, walk

_POSITIONS = ("model", "ref_model", "reward_funcs", "args", "self")
"""First parameters of the constructors below, by which a call in order is read."""
_ROWS = frozenset({"input_ids", "attention_mask", "labels"})
KEEPS = frozenset({"append", "extend", "update", "add", "insert", "setdefault", "appendleft"})
"""Methods of what holds several values that put one more in it."""


def is_called_above(function: ast.FunctionDef) -> bool:
    return any(is_above(node, function.name) for node in walk(function))


def is_above(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Call) and unparse(node.func) == f"super().{name}"


def parameters(function: ast.FunctionDef) -> list[str]:
    given = function.args
    names = [each.arg for each in (*given.posonlyargs, *given.args)]
    return [*names, *(each.arg for each in given.kwonlyargs)]


def hands_on(function: ast.FunctionDef) -> bool:
    """Tell whether a method calls the one above it once, with what it was given as it was given."""
    inside = [n for n in walk(function) if isinstance(n, (ast.For, ast.While, *_COMPREHENSIONS))]
    calls = [node for node in walk(function) if is_above(node, function.name)]
    if len(calls) != 1 or any(inner is calls[0] for node in inside for inner in walk(node)):
        return False
    own = {*parameters(function), getattr(function.args.vararg, "arg", ""), getattr(function.args.kwarg, "arg", "")}  # fmt: skip
    (call,) = calls
    assert isinstance(call, ast.Call)
    for each in call.args:
        value = each.value if isinstance(each, ast.Starred) else each
        if not isinstance(value, ast.Name) or value.id not in own:
            return False
    for keyword in call.keywords:
        is_own = isinstance(keyword.value, ast.Name) and keyword.value.id in own
        is_same = keyword.arg is None or unparse(keyword.value) == keyword.arg
        is_asked = keyword.arg == "return_outputs" and isinstance(keyword.value, ast.Constant)
        if not (is_own and is_same) and not is_asked:
            return False
    is_changed = any(_changes(node, own - {"self"}) for node in walk(function))
    return not is_changed and _leaves_outputs(function, call)


def _leaves_outputs(function: ast.FunctionDef, call: ast.Call) -> bool:
    """Tell whether of what the method above gives back only the loss is looked at; the rest is handed on."""
    above = {id(below): node for node in walk(function) for below in children(node)}
    held: set[str] = set()
    for node in walk(function):
        if isinstance(node, ast.Assign) and node.value is call:
            pairs = [each.elts[1:] if isinstance(each, ast.Tuple) else [each] for each in node.targets]  # fmt: skip
            held |= {each.id for pair in pairs for each in pair if isinstance(each, ast.Name)}
    used = [node for node in walk(function) if isinstance(node, ast.Name) and node.id in held]
    for node in (call, *(each for each in used if isinstance(each.ctx, ast.Load))):
        parent = above.get(id(node))
        if isinstance(parent, ast.Attribute):
            if parent.attr not in _LOOKED_AT:
                return False
        elif isinstance(parent, ast.Subscript):
            taken = getattr(parent.slice, "value", None)
            beside = isinstance(above.get(id(parent)), (ast.Tuple, ast.Return, ast.IfExp))
            if taken not in (0, "loss") and not beside:
                return False
    return True


_LOOKED_AT = frozenset({"loss", "mean", "sum", "item", "detach", "backward", "cpu", "device", "dtype", "float"})  # fmt: skip
_COMPREHENSIONS = (ast.ListComp, ast.GeneratorExp, ast.DictComp, ast.SetComp)


def _changes(node: ast.AST, names: set[str]) -> bool:
    """Tell whether a node sets one of some names, or what it holds."""
    if isinstance(node, (ast.Name, ast.Subscript, ast.Attribute)) and not isinstance(node.ctx, ast.Load):  # fmt: skip
        return root_of(node) in names
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        root = node.func.value
        is_own = isinstance(root, ast.Name) and root.id in names
        taken = getattr(node.args[0], "value", None) if node.args else None
        if node.func.attr == "pop" and isinstance(taken, str) and taken not in _ROWS:
            return False  # a column that the model does not take
        return is_own and node.func.attr in (*KEEPS, "pop", "clear", "popitem")
    return False


def only_sets(function: ast.FunctionDef) -> bool:
    """Tell whether a constructor hands on what it was given, and keeps words and numbers beside."""
    names = [each.arg for each in (*function.args.posonlyargs, *function.args.args)][1:]
    calls = [n for s in function.body for n in walk(s) if isinstance(n, ast.Call)]
    return (
        names[:1] in ([], ["model"])
        and (len(names) < 2 or names[1] in _POSITIONS)
        and sum(is_above(each, "__init__") for each in calls) == 1
        and all(_sets(node, function) for node in _statements(function.body))
        and all(_is_plain_call(each, function) for each in calls)
    )


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        if isinstance(node, ast.If):
            yield from _statements([*node.body, *node.orelse])
        else:
            yield node


def _sets(node: ast.stmt, function: ast.FunctionDef) -> bool:
    if isinstance(node, (ast.Pass, ast.Expr, ast.Raise, ast.Assert)):
        return True
    if not isinstance(node, (ast.Assign, ast.AnnAssign)):
        return False
    targets = targets_of(node)
    value = "" if node.value is None else unparse(node.value)
    handed = {
        each.id
        for call in walk(function)
        if is_above(call, "__init__")
        for each in walk(call)
        if isinstance(each, ast.Name)
    }
    return not _HOLDS.search(value) and not any(
        _changes(each, handed) or _DECIDES.match(unparse(target))
        for target in targets
        for each in walk(target)
    )


_HOLDS = lazy_pattern(
    r"(?i)model(?!s?_(?:name|path|type|max_len))|teacher|critic|encoder|policy|reward_func"
)
_DECIDES = lazy_pattern(
    r"self\.(?:use_|padding|max_|num_|is_|model\b|ref_|args|optim|lr_sched|accel|data_|train|eval|gener|vllm|reward|label_smoo"
    r"|precompute|peft|deepspeed|fsdp|loss_type|steps|_step|_buffer|callback|processing|tokenizer|compute|preproc|sampl|state|control|cp_|sp_|is_in_train|hp_|jit|torch)"
)
"""Attributes of the library's trainers that decide what a step holds."""


def _is_plain_call(call: ast.Call, function: ast.FunctionDef) -> bool:
    if is_above(call, "__init__"):
        names = [each for each in parameters(function) if each != "self"]
        rest = (function.args.vararg, function.args.kwarg)
        own = {*names, *(each.arg for each in rest if each is not None)}
        in_order = [unparse(each) for each in call.args if not isinstance(each, ast.Starred)]
        is_same = in_order == names[: len(in_order)] and all(
            each in _POSITIONS for each in in_order
        )
        return is_same and all(
            unparse(each.value) == each.arg if each.arg else unparse(each.value) in own
            for each in call.keywords
        )
    name = unparse(call.func)
    is_word = name in ("super", "len", "getattr", "isinstance", "hasattr", "print", "dict", "list", "set", "str", "int", "float", "bool", "defaultdict", "collections.defaultdict")  # fmt: skip
    is_loss = last_name(call.func).endswith("Loss") and not call.args
    is_said = name.partition(".")[0] in ("logger", "logging", "warnings")
    is_error = isinstance(call.func, ast.Name) and name.endswith(("Error", "Warning"))
    return is_word or is_loss or is_said or is_error
