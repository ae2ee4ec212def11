"""What leads to an expression of a block: the values of the names in it, of the names in those, and so on."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from preflight.scripts.python.nodes import children, last_name, parts_of_target, targets_of

_CHANGES = frozenset({"append", "extend", "insert", "setdefault", "update"})
"""Methods by which what a name holds gets more of what they are given."""


def leading_to(ends: Sequence[ast.expr], block: Sequence[ast.AST]) -> list[ast.expr]:
    """Return some expressions, and every expression of a block by which what they name has got its value; `block` are its
    nodes."""
    given = [pair for node in block for pair in _given(node)]
    found, names = [*ends], {name for end in ends for name in _names_in(end)}
    size = -1
    while size < len(names):
        size = len(names)
        for pair in [each for each in given if each[0] in names]:
            given.remove(pair)
            found.append(pair[1])
            names.update(_names_in(pair[1]))
    return found


def _given(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Yield the names that a node gives a value, or a part of one, each with the value."""
    if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.NamedExpr)):
        for part in (each for target in targets_of(node) for each in parts_of_target(target)):
            yield from [(_root(part), node.value)] if node.value is not None else ()
    elif isinstance(node, ast.Call) and last_name(node.func) in _CHANGES:
        yield _root(getattr(node.func, "value", node.func)), node


def _names_in(node: ast.AST) -> Iterator[str]:
    """Yield the names in an expression; of `self` the attributes that stand there. A comparison hands on no more than a mask,
    which has no gradient and is no row."""
    if isinstance(node, (ast.Name, ast.Attribute)):
        yield _root(node)
    if not isinstance(node, ast.Compare):
        for each in children(node):
            yield from _names_in(each)


def _root(node: ast.expr) -> str:
    """Return the name of which an expression is a part, `rows` of `rows["ids"]`, and `self.rows` of `self.rows["ids"]`."""
    owner = node
    while isinstance(owner, (ast.Attribute, ast.Subscript)):
        node, owner = owner, owner.value
    name = owner.id if isinstance(owner, ast.Name) else ""
    return f"self.{node.attr}" if name == "self" and isinstance(node, ast.Attribute) else name
