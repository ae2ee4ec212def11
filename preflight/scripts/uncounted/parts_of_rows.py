"""Where the step of a loop gives its model some rows of its batch at a time, each with a gradient of its own."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.flow import takes_gradient
from preflight.scripts.python.nodes import last_name, names_in, walk

IN_PARTS = "rows that a step takes in parts"
_DIVIDES = lazy_pattern(r"chunk|split")


def in_parts(trees: Iterable[ast.AST]) -> int | None:
    """Return the line of a loop within a step that takes a gradient of every part of what the step has; None without one.

    `for part in batch.chunk(8):`, and `for i in range(0, 64, 8):` around `batch[i : i + 8]`.
    """
    for tree in trees:
        for step in walk(tree):
            if isinstance(step, ast.For):
                for inner in _loops(step):
                    names = {*names_in(step.target), *_assigned(step, inner)}
                    if _takes_gradient(inner) and _divides(inner, names):
                        return inner.lineno
    return None


def _loops(step: ast.For) -> Iterator[ast.For]:
    for statement in step.body:
        yield from (node for node in walk(statement) if isinstance(node, ast.For))


def _assigned(step: ast.For, inner: ast.For) -> Iterator[str]:
    """Yield the names that a step gives a value to, but for those of one of its loops."""
    within = {id(node) for node in walk(inner)}
    for statement in step.body:
        for node in walk(statement):
            if isinstance(node, ast.Assign) and id(node) not in within:
                yield from (name for target in node.targets for name in names_in(target))


def _takes_gradient(loop: ast.For) -> bool:
    return takes_gradient(node for statement in loop.body for node in walk(statement))


def _divides(loop: ast.For, names: set[str]) -> bool:
    """Tell whether a loop goes over parts of what has one of some names."""
    for node in walk(loop.iter):
        if isinstance(node, ast.Call) and _DIVIDES.search(last_name(node.func)):
            return bool(names.intersection(names_in(node)))
    own = set(names_in(loop.target))
    return any(
        isinstance(node, ast.Subscript)
        and _is_part(node.slice, own)
        and bool(names.intersection(names_in(node.value)) or _is_of_entries(node, statement, names))
        for statement in loop.body
        for node in walk(statement)
    )


def _is_part(index: ast.expr, own: set[str]) -> bool:
    """Tell whether an index cuts rows out by the name that a loop counts with."""
    first = index.elts[0] if isinstance(index, ast.Tuple) and index.elts else index
    return isinstance(first, ast.Slice) and bool(own.intersection(names_in(first)))


def _is_of_entries(node: ast.Subscript, statement: ast.stmt, names: set[str]) -> bool:
    """Tell whether what is cut is an entry of what has one of some names: `{k: v[i : i + 8] for k, v in batch.items()}`."""
    entries = set(names_in(node.value))
    return any(
        bool(
            entries.intersection(names_in(each.target)) and names.intersection(names_in(each.iter))
        )
        for each in walk(statement)
        if isinstance(each, ast.comprehension)
    )
