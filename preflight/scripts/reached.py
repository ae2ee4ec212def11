"""Which functions of a training script and of the files that it imports may run at all: those that something names.

A helper for inference in an imported file is none of the launch, as long as nothing that runs speaks of it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Container, Iterable, Mapping, Sequence

from preflight.scripts.nodes import walk
from preflight.scripts.scope import Scope, walk_block
from preflight.values import dataclass


@dataclass(frozen=True)
class Named:
    """A function, or a method under the name of its class, with its block."""

    names: tuple[str, ...]
    """What has to be named for it to run; empty where it always may, as what a decorator registers."""
    body: list[ast.stmt]
    scope: Scope
    method: str = ""
    """Its own name, which has to be named too: of a class that stands on none of a library, which would call it."""

    called: str = ""
    """Its own name too, where the script calls that itself: it surely runs where that surely does."""

    def may_run(self, named: Container[str]) -> bool:
        """Tell whether it may run where these are named."""
        is_known = not self.names or any(name in named for name in self.names)
        return is_known and (not self.method or self.method in named)


def in_file(path: str, name: str) -> str:
    """Return the name by which one file's function is told from those that others call so."""
    return f"{path}:{name}"


def own_functions(
    functions: Iterable[Named], given: Mapping[str, Container[str]]
) -> dict[str, dict[str, str]]:
    """Return file -> a bare name there -> that of the one function that stands at its top and is called so; `given` has the
    names that a file has from elsewhere too."""
    held: dict[tuple[str, str], list[Named]] = {}
    for each in functions:
        for name in each.names[:1]:
            held.setdefault((each.scope.path, name), []).append(each)
    found: dict[str, dict[str, str]] = {}
    for (path, name), those in held.items():
        if len(those) == 1 and len(those[0].names) > 1 and name not in given.get(path, ()):
            found.setdefault(path, {})[name] = those[0].names[1]
    return found


def reached(
    modules: Iterable[tuple[list[ast.stmt], str]],
    functions: Sequence[Named],
    renamed: Mapping[str, str],
    means: Mapping[str, Mapping[str, str]],
) -> frozenset[int]:
    """Return the ids of the scopes of functions that may run, from what the modules and those functions name.

    `renamed` has the names that imports give, and what they are called where they are defined; `means` what a bare name
    is in a file that has a function of that name itself.
    """
    of_name = by_name(functions)
    ready = [each for each in functions if each.may_run(())]
    named: set[str] = set()
    found: set[int] = set()
    new = [name for body, path in modules for name in names_in(body, means.get(path, {}))]
    while new or ready:
        for name in new:
            if name not in named:
                named.add(name)
                new += [renamed[name]] if name in renamed else []
                ready += of_name(name)
        new = []
        for each in ready:
            if id(each.scope) not in found and each.may_run(named):
                found.add(id(each.scope))
                new += names_in(each.body, means.get(each.scope.path, {}))
        ready = []
    return frozenset(found)


def by_name(functions: Iterable[Named]) -> Callable[[str], Sequence[Named]]:
    """Return what gives the functions that a name makes run, or may."""
    held: dict[str, list[Named]] = {}
    for function in functions:
        for name in {*function.names, function.method, function.called} - {""}:
            held.setdefault(name, []).append(function)
    return lambda name: held.get(name, ())


def names_in(body: Sequence[ast.AST], means: Mapping[str, str]) -> set[str]:
    """Return the names and attributes that a block uses; those of functions and classes in it are their own."""
    names: set[str] = set()
    for node in walk_block(body):
        if isinstance(node, ast.Name):
            names.add(means.get(node.id, node.id))
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.ClassDef):
            own = [part for part in node.body if not isinstance(part, ast.FunctionDef)]
            names |= _walked((*node.bases, *node.decorator_list, *own))
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            outer = [*node.args.defaults, *(d for d in node.args.kw_defaults if d is not None)]
            outer += [] if isinstance(node, ast.Lambda) else node.decorator_list
            outer += [node.body] if isinstance(node, ast.Lambda) else []
            names |= _walked(outer)
    return names


def _walked(parts: Iterable[ast.AST]) -> set[str]:
    names: set[str] = set()
    for part in parts:
        for node in walk(part):
            if isinstance(node, ast.Name):
                names.add(node.id)
            elif isinstance(node, ast.Attribute):
                names.add(node.attr)
    return names


def asks_by_name(node: ast.AST) -> bool:
    """Tell whether a node is `getattr(x, name)` of a name that only running tells: any method may be the one."""
    if not isinstance(node, ast.Call) or getattr(node.func, "id", "") != "getattr":
        return False
    return not any(isinstance(each, ast.Constant) for each in node.args[1:2])
