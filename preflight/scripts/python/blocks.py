"""Which statements of a training script surely run, which may, and which are never reached."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from preflight.scripts.python.flow import is_main_guard, leaves, trains
from preflight.scripts.python.nodes import FIELDS, children
from preflight.scripts.python.scope import Scope
from preflight.scripts.python.values import Evaluator

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
"""Nodes whose inside runs when somebody calls them."""

Found = tuple[ast.AST, bool | None]
"""A node, and whether it surely runs; None for a statement that is not reached."""


def reachable(body: Sequence[ast.stmt], scope: Scope, evaluator: Evaluator) -> Iterator[Found]:
    """Yield the nodes of a block, and whether they surely run; None for the statements of a branch that is not taken.

    Functions and classes are yielded, and not what is inside them; a lambda is there to be called. What stands behind `if done: return` runs
    where that is not taken.
    """
    return _of_body(body, True, scope, evaluator)


def _of_body(
    body: Sequence[ast.stmt], is_sure: bool, scope: Scope, evaluator: Evaluator
) -> Iterator[Found]:
    for index, node in enumerate(body):
        yield from _of_node(node, is_sure, scope, evaluator)
        left = _is_left(node, body, index, scope, evaluator)
        if left:
            yield from ((each, None) for each in body[index + 1 :])
            return
        is_sure = is_sure and left is False


def _is_left(
    node: ast.stmt, body: Sequence[ast.stmt], index: int, scope: Scope, evaluator: Evaluator
) -> bool | None:
    """Tell whether what follows a statement in its block is not reached; None where only running tells."""
    if not isinstance(node, ast.If) or is_main_guard(node):
        return leaves([node])
    by_body, by_else = leaves(node.body), leaves(node.orelse)
    if not (by_body or by_else):
        return False
    test = evaluator.test(node.test, scope)
    if test is None:
        return False if trains(body[index + 1 :]) else None
    return by_body if test else by_else


def _of_node(node: ast.AST, is_sure: bool, scope: Scope, evaluator: Evaluator) -> Iterator[Found]:
    if isinstance(node, ast.If) and not is_main_guard(node):
        yield from _of_expression(node.test, is_sure, scope, evaluator)
        test = evaluator.test(node.test, scope)
        for branch, taken in ((node.body, test), (node.orelse, not test)):
            if test is not None and not taken:
                yield from ((each, None) for each in branch)
            else:
                yield from _of_body(branch, is_sure and test is not None, scope, evaluator)
        return
    if isinstance(node, ast.Try):
        for part in (node.body, node.orelse, node.finalbody):
            yield from _of_body(part, is_sure, scope, evaluator)
        for handler in node.handlers:
            if handler.type is not None:
                yield from _of_expression(handler.type, is_sure, scope, evaluator)
            yield from _of_body(handler.body, False, scope, evaluator)
        return
    yield node, is_sure
    if isinstance(node, DEFINITIONS):
        return
    for name in FIELDS[node.__class__]:
        value = getattr(node, name, None)
        if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
            yield from _of_body(value, is_sure, scope, evaluator)
            continue
        for each in value if isinstance(value, list) else (value,):
            if isinstance(each, ast.match_case):
                yield from _of_node(each, is_sure, scope, evaluator)
            elif isinstance(each, ast.AST):
                yield from _of_expression(each, is_sure, scope, evaluator)


def _of_expression(
    node: ast.AST, is_sure: bool, scope: Scope, evaluator: Evaluator
) -> Iterator[Found]:
    """Yield the nodes of an expression in order, without the part of an `a if b else c` that is not taken."""
    waiting = [(node, is_sure)]
    while waiting:
        node, is_sure = waiting.pop()
        if isinstance(node, ast.IfExp):
            test = evaluator.test(node.test, scope)
            kept = [
                (branch, is_sure and test is not None)
                for branch, taken in ((node.orelse, not test), (node.body, test))
                if test is None or taken
            ]
            if test is not None:
                yield (node.orelse if test else node.body), None
            waiting += [*kept, (node.test, is_sure)]
            continue
        yield node, is_sure
        if isinstance(node, ast.Lambda):
            if not any(scope.holds(each.arg) for each in node.args.args):
                waiting.append((node.body, is_sure))
            continue
        waiting += [(each, is_sure) for each in reversed(children(node))]
