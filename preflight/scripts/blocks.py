"""Which statements of a training script surely run, which may, and which are never reached."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from preflight.scripts.files import is_main_guard
from preflight.scripts.scope import UNKNOWN, Scope
from preflight.scripts.values import Evaluator

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
"""Nodes whose inside runs when somebody calls them."""


def reachable(
    body: list[ast.stmt], scope: Scope, evaluator: Evaluator
) -> Iterator[tuple[ast.AST, bool | None]]:
    """Yield the nodes of a block, and whether they surely run; None for the statements of a branch that is not taken.

    Functions, classes and lambdas are yielded, and not what is inside them.
    """
    waiting: list[tuple[ast.AST, bool]] = [(node, True) for node in reversed(body)]
    while waiting:
        node, is_sure = waiting.pop()
        if isinstance(node, (ast.If, ast.IfExp)) and not is_main_guard(node):
            waiting.append((node.test, is_sure))
            test = _constant_test(node.test, scope, evaluator)
            for branch, taken in ((node.orelse, not test), (node.body, test)):
                nodes = branch if isinstance(branch, list) else [branch]
                if test is UNKNOWN:
                    waiting.extend((each, False) for each in reversed(nodes))
                elif taken:
                    waiting.extend((each, is_sure) for each in reversed(nodes))
                else:
                    yield from ((each, None) for each in nodes)
            continue
        if isinstance(node, ast.Try):
            parts = [*node.body, *node.orelse, *node.finalbody]
            waiting.extend((each, is_sure) for each in reversed(parts))
            continue
        yield node, is_sure
        if not isinstance(node, DEFINITIONS):
            waiting.extend((child, is_sure) for child in reversed(list(ast.iter_child_nodes(node))))


def _constant_test(node: ast.expr, scope: Scope, evaluator: Evaluator) -> object:
    value = evaluator.value(node, scope)
    return UNKNOWN if value is UNKNOWN else bool(value)
