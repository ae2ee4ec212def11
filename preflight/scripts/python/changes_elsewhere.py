"""What is set in another block: keys of a dict of its module, or of one that a call gives it, and names of a module."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence

from preflight.scripts.python.nodes import given_to, unparse, walk
from preflight.scripts.python.scope import Scope

Functions = Mapping[str, Sequence[tuple[ast.FunctionDef, Scope]]]


def note_changes_elsewhere(
    scopes: Iterable[Scope], functions: Functions, calls: Iterable[tuple[str, ast.Call, Scope]]
) -> None:
    """Note in the block of every name which keys other blocks set in what it holds."""
    for scope in scopes:
        for name, changes in scope.changed.items():
            if not scope.holds(name):
                _note(scope, name, changes)
    changing = {
        name: [(function, inner) for function, inner in found if inner.arguments & {*inner.changed}]
        for name, found in functions.items()
    }
    for name, call, scope in calls:
        for function, inner in changing.get(name, ()):
            for parameter, node in given_to(function, call).items():
                if isinstance(node, ast.Name) and parameter in inner.changed:
                    _note(scope, node.id, inner.changed[parameter])


def note_names_of_modules(
    trees: Mapping[str, ast.Module],
    imports: Mapping[str, Mapping[str, tuple[str, str]]],
    modules: Mapping[str, Scope],
) -> None:
    """Note in every module which of its names another file sets: `import config; config.ROWS = 8`."""
    for path, tree in trees.items():
        of_path = {local: file for local, (file, name) in imports[path].items() if not name}
        for node in walk(tree) if of_path else ():
            if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
                file = of_path.get(unparse(node.value), "")
                if file in modules:
                    modules[file].unclear.add(node.attr)


def _note(scope: Scope, name: str, paths: Iterable[tuple[str, ...]]) -> None:
    holder = scope.holder(name)
    if holder is not None:
        holder.changed_elsewhere.setdefault(name, set()).update(paths)
