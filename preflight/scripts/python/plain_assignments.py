"""Attributes that are set under a name in quotes: `setattr(args, "packing", True)` and `vars(args)["packing"] = True` are
`args.packing = True`, and stand so in the tree that is read."""

from __future__ import annotations

import ast

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.nodes import is_namespace, last_name, walk

_BLOCKS = ("body", "orelse", "finalbody")
SIGN = lazy_pattern(r"setattr|\bvars\(|__dict__")
"""What stands in a text that has any."""


def assign_plainly(tree: ast.Module) -> None:
    """Write every such statement of a new tree as the assignment of an attribute that it is."""
    for node in walk(tree):
        for name in _BLOCKS:
            block = getattr(node, name, None)
            if isinstance(block, list):
                block[:] = [_assignment(each) or each for each in block]


def _assignment(statement: ast.stmt) -> ast.Assign | None:
    call = statement.value if isinstance(statement, ast.Expr) else None
    if isinstance(call, ast.Call):
        is_whole = len(call.args) == 3 and not call.keywords
        if not is_whole or last_name(call.func) not in ("setattr", "__setattr__"):
            return None
        owner, name, value = call.args
    elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Subscript):
        entry, value = statement.targets[0], statement.value
        if len(statement.targets) > 1 or not is_namespace(entry.value):
            return None
        name = entry.slice
        owner = entry.value.args[0] if isinstance(entry.value, ast.Call) else entry.value.value  # type: ignore[attr-defined]
    else:
        return None
    if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
        return None
    target = ast.Attribute(owner, name.value, ast.Store())
    return ast.copy_location(ast.Assign([ast.copy_location(target, statement)], value), statement)
