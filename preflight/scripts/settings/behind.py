"""What an expression of a script stands for, one step back: through names, tuples, dicts, objects, functions and their calls."""

from __future__ import annotations

import ast

from preflight.scripts.python.assignments import returned_by
from preflight.scripts.python.flow import Position
from preflight.scripts.python.names import position
from preflight.scripts.python.nodes import last_name, unparse
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.running_calls import attributes_set
from preflight.scripts.python.scope import Scope
from preflight.scripts.settings.followed_models import arguments_given

Held = tuple[ast.expr, Scope]
_AT_THE_END: Position = (1 << 30, 0)
"""Behind all statements of a block: what a function reads of the block around it is there when that calls it."""
_MAPPINGS = frozenset({"dict", "DatasetDict", "IterableDatasetDict", "OrderedDict", "copy", "update"})  # fmt: skip
"""Calls that give back the dict that they are given (datasets/dataset_dict.py, 5.2), or one of their keywords."""
Seen = set[tuple[ast.expr, int, object]]
"""Where an entry was looked for already: an expression, the names around it, and the key."""
_MOST_SEEN = 100
"""Expressions behind which an entry is looked for, each once: of functions with one name each may call all."""


def behind(
    reader: ScriptReader, node: ast.expr, scope: Scope, seen: Seen | None = None
) -> list[Held]:
    """Return what an expression may stand for, each with the names around it; nothing where that is not seen."""
    if isinstance(node, ast.IfExp):
        return [(each, scope) for each in reader.evaluator.branches(node, scope)]
    if isinstance(node, ast.Name):
        return _of_name(reader, node, scope)
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return entries(reader, node.value, node.slice.value, scope, seen)
    if isinstance(node, ast.Attribute):
        return _of_attribute(reader, node, scope)
    if isinstance(node, ast.Call):
        functions = functions_of(reader, node, scope)
        return [(value, inner) for function, inner in functions for value in returned_by(function)]
    return []


def functions_of(
    reader: ScriptReader, call: ast.Call, scope: Scope
) -> list[tuple[ast.FunctionDef, Scope]]:
    """Return the one function of the script's own that a call means, or the method of one of its own classes; else nothing."""
    key = reader.methods.called(call.func, scope)
    if key:
        return list(reader.methods.functions[key])
    held = reader.functions.get(last_name(call.func), []) if isinstance(call.func, ast.Name) else []
    return list(held) if len(held) == 1 else []


def entries(
    reader: ScriptReader,
    node: ast.expr,
    key: object,
    scope: Scope,
    seen: Seen | None = None,
    of_every_key: bool = True,
) -> list[Held]:
    """Return what an expression holds under a key of a dict that the script writes, or at a place of a tuple; what is set
    under keys that only running tells too, unless it is told otherwise."""
    seen = set() if seen is None else seen
    at = (node, id(scope), key)
    if at in seen or len(seen) > _MOST_SEEN:
        return []
    seen.add(at)
    parts: list[Held] = []
    found: list[Held] = []
    if isinstance(node, ast.Dict):
        for name, value in zip(node.keys, node.values, strict=True):
            if name is None:
                parts.append((value, scope))
            elif isinstance(name, ast.Constant) and name.value == key:
                found, parts = [(value, scope)], []  # what stands before it counts no more
    elif isinstance(node, ast.DictComp):
        return [(node.value, scope)] if of_every_key else []
    elif isinstance(node, (ast.Tuple, ast.List)):
        is_place = isinstance(key, int) and -len(node.elts) <= key < len(node.elts)
        return [(node.elts[key], scope)] if isinstance(key, int) and is_place else []
    elif isinstance(node, ast.Name):
        return _of_changed(reader, node, key, scope, seen, of_every_key)
    elif isinstance(node, ast.Call) and last_name(node.func) in _MAPPINGS:
        found = [(each.value, scope) for each in node.keywords if each.arg == key]
        whole = [*node.args, *(each.value for each in node.keywords if each.arg is None)]
        parts = [] if found else [(each, scope) for each in whole]
    else:
        parts = behind(reader, node, scope, seen) or _of_any_function(reader, node)
    for part, around in parts:
        found += entries(reader, part, key, around, seen, of_every_key)
    return found


def _of_any_function(reader: ScriptReader, node: ast.expr) -> list[Held]:
    """Return what functions give back of which a call may mean any: several have its name."""
    held = reader.functions.get(last_name(node.func), ()) if isinstance(node, ast.Call) else ()
    return [(value, inner) for function, inner in held for value in returned_by(function)]


def _of_changed(
    reader: ScriptReader,
    node: ast.Name,
    key: object,
    scope: Scope,
    seen: Seen,
    of_every_key: bool,
) -> list[Held]:
    """Return what the dict of a name holds under a key: what is set there last, and what it was made with unless that surely
    runs."""
    holder = scope.holder(node.id)
    if holder is None:
        return []
    at = position(node) if holder is scope else _AT_THE_END
    nodes, is_sure = reader.evaluator.may_hold_under(node.id, (str(key),), holder, at)
    found = [(each, holder) for each in nodes]
    found += [
        (statement.value, holder)
        for statement, around in reader.possible_statements
        for target in statement.targets
        if of_every_key
        and around is holder
        and isinstance(target, ast.Subscript)
        and last_name(target.value) == node.id
        and not isinstance(target.slice, ast.Constant)
    ]  # of every key too: `for split in rows: rows[split] = rows[split].map(encode)`
    for each in () if is_sure else _of_name(reader, node, scope):
        found += entries(reader, each[0], key, each[1], seen, of_every_key)
    return found


def _of_name(reader: ScriptReader, node: ast.Name, scope: Scope) -> list[Held]:
    holder = scope.holder(node.id)
    if holder is None:
        return []
    if node.id in holder.arguments and node.id not in holder.assigned:
        return arguments_given(reader, node.id, holder)
    at = position(node) if holder is scope else _AT_THE_END
    return [(each, holder) for each in reader.evaluator.may_hold(node.id, holder, at)]


def _of_attribute(reader: ScriptReader, node: ast.Attribute, scope: Scope) -> list[Held]:
    """Return what a script sets an attribute to that it calls so, or the methods of the class that made its object."""
    owner = reader.only_call(node.value, scope)
    name = "" if owner is None else owner.name
    own = name if name in reader.classes else reader.class_around(scope)
    found: list[Held] = []
    for target, value, where in attributes_set(reader.possible_statements):
        if target.attr != node.attr:
            continue
        is_same = where.path == scope.path and unparse(target) == unparse(node)
        is_its = bool(own) and reader.class_around(where) == own and last_name(target.value) == "self"  # fmt: skip
        if is_its or (is_same and last_name(node.value) != "self"):
            found.append((value, where))
    return found
