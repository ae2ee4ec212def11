"""Attributes of other objects that a callback of a trainer sets while it runs, and puts back before it is over:

    held = trainer.data_collator.length
    trainer.data_collator.length = args.longer
    ...
    trainer.data_collator.length = held

Between two of its steps a trainer calls its callbacks (transformers/trainer_callback.py, 4.4 to 5.24), so no step sees
what is set so.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping

from preflight.scripts.python.nodes import is_callback, last_name, methods_of, unparse, walk
from preflight.values import NamedTuple


class SetBack(NamedTuple):
    """A statement that sets an attribute while a method of a callback runs."""

    statement: ast.Assign
    method: ast.FunctionDef
    path: str
    puts_back: bool
    """Whether it gives the attribute what that held before."""


def set_back(trees: Mapping[str, ast.Module]) -> Mapping[str, list[SetBack]]:
    """Return the attributes that callbacks set and put back -> the statements that do either."""
    found: dict[str, list[SetBack]] = {}
    callbacks = (
        (path, node)
        for path, tree in trees.items()
        for node in walk(tree)
        if isinstance(node, ast.ClassDef) and is_callback(node)
    )
    for path, cls in callbacks:
        for name, method in methods_of(cls).items():
            sets = _put_back(method) if name.startswith("on_") and not _trains(method) else {}
            for owner, statements in sets.items():
                last = unparse(statements[-1].value)
                found.setdefault(owner.rpartition(".")[2], []).extend(
                    SetBack(each, method, path, unparse(each.value) == last) for each in statements
                )
    return found


def _trains(method: ast.FunctionDef) -> bool:
    calls = (node.func for node in walk(method) if isinstance(node, ast.Call))
    return any(last_name(func) in ("train", "fit", "training_step") for func in calls)


def _put_back(method: ast.FunctionDef) -> dict[str, list[ast.Assign]]:
    """Return the paths that a method sets and leaves as they were, with the statements that set each."""
    names = [node.id for node in walk(method) if isinstance(node, ast.Name) and _is_set(node)]
    sets: dict[str, list[ast.Assign]] = {}
    kept: dict[str, tuple[str, int]] = {}
    for statement in (node for node in walk(method) if isinstance(node, ast.Assign)):
        target = statement.targets[0]
        if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Attribute):
            sets.setdefault(unparse(target), []).append(statement)
        elif isinstance(target, ast.Name) and names.count(target.id) == 1:
            kept.setdefault(unparse(statement.value), (target.id, statement.lineno))
    stores = [unparse(n) for n in walk(method) if isinstance(n, ast.Attribute) and _is_set(n)]
    leaves = [node.lineno for node in walk(method) if isinstance(node, ast.Return)]
    last = {unparse(each.targets[0]): each for each in _surely(method.body)}
    return {
        path: sorted(statements, key=lambda each: each.lineno)
        for path, statements in sets.items()
        if stores.count(path) == len(statements)
        and path in kept
        and path in last
        and unparse(last[path].value) == kept[path][0]
        and kept[path][1] < min(each.lineno for each in statements)
        and last[path].lineno == max(each.lineno for each in statements)
        and all(line > last[path].lineno or line < kept[path][1] for line in leaves)
    }


def _surely(body: Iterable[ast.stmt]) -> Iterator[ast.Assign]:
    """Yield the assignments of some statements that run in any case, in their order."""
    for statement in body:
        if isinstance(statement, ast.Assign):
            yield statement
        elif isinstance(statement, ast.Try):
            yield from _surely(statement.finalbody)
        elif isinstance(statement, ast.With):
            yield from _surely(statement.body)


def _is_set(node: ast.Name | ast.Attribute) -> bool:
    return not isinstance(node.ctx, ast.Load)
