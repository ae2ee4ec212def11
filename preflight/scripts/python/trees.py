"""Python files as syntax trees, each parsed once, and where a name that a package passes on is defined."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache

from preflight.launch import LaunchCommand
from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.model_variables import call_models
from preflight.scripts.python.nodes import targets_of, unparse, walk
from preflight.scripts.python.plain_statements import SIGN, write_plainly
from preflight.scripts.python.scope import absolute

MOST_STEPS = 4
"""Packages through which a name is passed on: `pkg/__init__.py` from `pkg/utils/__init__.py` from `pkg/utils/configs.py`."""

LINE_END = lazy_pattern(r"\r\n?")
RENAMES = lazy_pattern(
    r"(?m)^[ \t]*from[ \t]+\w[\w.]*[ \t]+import\b(?:[^\n(]*|[ \t]*\([^)]*?)\bas\b"
)
"""What stands in a text that imports something under another name."""


@lru_cache(maxsize=64)
def tree_of(text: str) -> ast.Module:
    """Return a file's tree, which nobody may change; raise SyntaxError, ValueError or RecursionError for what is none."""
    tree = ast.parse(text)
    if SIGN.search(text):
        write_plainly(tree)
    if RENAMES.search(text):
        from preflight.scripts.python.imported_names import call_imports  # few files rename one

        call_imports(tree)
    call_models(tree)
    return tree


def nodes_of(text: str) -> Sequence[ast.AST]:
    """Return the nodes of a file, those nearer to its top first; none of what is no Python."""
    try:
        return walk(tree_of(text))
    except (SyntaxError, ValueError, RecursionError):
        return ()


def under(nodes: Iterable[ast.AST], condition: re.Pattern[str]) -> set[int]:
    """Return the ids of what runs only where a condition is met whose text a pattern finds."""
    return {id(inner) for statement in under_if(nodes, condition) for inner in walk(statement)}


def under_if(nodes: Iterable[ast.AST], condition: re.Pattern[str]) -> list[ast.stmt]:
    """Return the statements right below a condition whose text a pattern finds."""
    conditions = (node for node in nodes if isinstance(node, ast.If))
    return [s for node in conditions if condition.search(unparse(node.test)) for s in node.body]


def source_of(command: LaunchCommand, path: str) -> str:
    """Return the text of a Python file with the line ends that its tree counts; raise OSError or UnicodeDecodeError."""
    return LINE_END.sub("\n", command.read_text(path))


def read_tree(command: LaunchCommand, path: str) -> ast.Module | None:
    """Return the tree of a file of the launch; None where it cannot be read or parsed."""
    try:
        return tree_of(source_of(command, path))
    except (OSError, UnicodeDecodeError, SyntaxError, ValueError, RecursionError):
        return None


def file_of(command: LaunchCommand, folders: list[str], module: str) -> str | None:
    """Return the file that a module's name means in one of some folders."""
    for base in folders:
        for candidate in absolute(base, module):
            if command.exists(candidate):
                return os.path.normpath(candidate)
    return None


def defined_in(
    command: LaunchCommand, path: str, name: str, find: Callable[[str, str], str | None]
) -> tuple[str, str]:
    """Return the file that defines what a module gives under a name, and its name there; empty for a whole file.

    `find` returns the file that a file means by a module's name. What is not followed stays where it was asked.
    """
    return _defined_in(command, path, name, find, 0) or (path, name)


def _defined_in(
    command: LaunchCommand, path: str, name: str, find: Callable[[str, str], str | None], depth: int
) -> tuple[str, str] | None:
    tree = read_tree(command, path) if depth < MOST_STEPS else None
    if tree is None:
        return None
    imports: list[ast.ImportFrom] = []
    for node in _top(tree.body):
        if isinstance(node, ast.ImportFrom):
            imports.append(node)
        elif name in _given(node):
            return path, name
    for node in imports:
        for alias in node.names:
            if (alias.asname or alias.name) == name or alias.name == "*":
                module = "." * node.level + (node.module or "")
                file = find(path, module)
                wanted = name if alias.name == "*" else alias.name
                found = _defined_in(command, file, wanted, find, depth + 1) if file else None
                if found is not None:
                    return found
    if os.path.basename(path) == "__init__.py":
        file = file_of(command, [os.path.dirname(path)], name)
        return None if file is None else (file, "")
    return None


def _top(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module, those under an `if` or a `try` too."""
    for node in body:
        yield node
        if isinstance(node, (ast.If, ast.Try)):
            yield from _top([*node.body, *node.orelse])


def _given(node: ast.stmt) -> list[str]:
    """Return the names that a statement defines."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    is_set = isinstance(node, (ast.Assign, ast.AnnAssign))
    return [each.id for each in targets_of(node) if is_set and isinstance(each, ast.Name)]
