"""A script that names a reference model for one of its trainers and, in the lines that this launch runs, holds none."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable, Iterator

from preflight.scripts.files import last_name

NAMED = re.compile(r"^ref(?:erence)?_model$")


def holds_none(files: Iterable[tuple[ast.Module, Collection[int]]]) -> bool:
    """Tell whether everything that a name of a reference is bound to is None, or another such name.

    `files` are trees with the numbers of their lines that run. A parameter of that name may be given anything.
    """
    bound = [each for tree, lines in files for each in _bound(tree, lines)]
    return bool(bound) and all(value is not None and _is_none(value) for value in bound)


def _bound(tree: ast.Module, lines: Collection[int]) -> Iterator[ast.expr | None]:
    """Yield what a name of a reference is bound to; None where that is not one expression."""
    for node in ast.walk(tree):
        if getattr(node, "lineno", None) not in lines:
            continue
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if _is_named(target):
                    yield node.value
                elif any(map(_is_named, ast.walk(target))):
                    yield None
        elif isinstance(node, ast.AnnAssign) and _is_named(node.target):
            yield node.value
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if key is not None and _is_word(key):
                    yield value
        elif isinstance(node, ast.keyword) and NAMED.match(node.arg or ""):
            yield node.value
        elif isinstance(node, ast.arg):
            if NAMED.match(node.arg):
                yield None
        elif isinstance(node, (ast.With, ast.For)):
            held = [each.optional_vars for each in getattr(node, "items", ())]
            if any(map(_is_named, (*held, getattr(node, "target", None)))):
                yield None


def _is_named(node: ast.AST | None) -> bool:
    is_name = isinstance(node, (ast.Name, ast.Attribute))
    return is_name and NAMED.match(last_name(node)) is not None  # type: ignore[arg-type]


def _is_word(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and NAMED.match(str(node.value)) is not None


def _is_none(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return node.value is None
    return _is_named(node) or (isinstance(node, ast.Subscript) and _is_word(node.slice))
