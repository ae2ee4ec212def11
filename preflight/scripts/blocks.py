"""Which statements of a training script surely run, which may, and which are never reached."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from preflight.scripts.files import is_main_guard
from preflight.scripts.scope import UNKNOWN, Scope
from preflight.scripts.values import Evaluator


def reachable(
    body: list[ast.stmt], scope: Scope, evaluator: Evaluator
) -> Iterator[tuple[ast.AST, bool]]:
    """Yield the nodes of a block, and whether they surely run; branches not taken are left out."""
    waiting: list[tuple[ast.AST, bool]] = [(node, True) for node in reversed(body)]
    while waiting:
        node, is_sure = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and not is_main_guard(node):
            waiting.append((node.test, is_sure))
            test = _constant_test(node.test, scope, evaluator)
            for branch, taken in ((node.orelse, not test), (node.body, test)):
                if test is UNKNOWN:
                    waiting.extend((each, False) for each in reversed(branch))
                elif taken:
                    waiting.extend((each, is_sure) for each in reversed(branch))
            continue
        if isinstance(node, ast.Try):
            parts = [*node.body, *node.orelse, *node.finalbody]
            waiting.extend((each, is_sure) for each in reversed(parts))
            continue
        yield node, is_sure
        waiting.extend((child, is_sure) for child in reversed(list(ast.iter_child_nodes(node))))


def _constant_test(node: ast.expr, scope: Scope, evaluator: Evaluator) -> object:
    value = evaluator.value(node, scope)
    return UNKNOWN if value is UNKNOWN else bool(value)
