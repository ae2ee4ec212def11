"""Which functions of a training script and of the files that it imports may run at all: those that something names.

A helper for inference in an imported file is none of the launch, as long as nothing that runs speaks of it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Container, Iterable, Mapping, Sequence

from preflight.scripts.python.assignments import walk_block
from preflight.scripts.python.nodes import last_name, parts_of, walk
from preflight.scripts.python.scope import Scope
from preflight.values import dataclass


@dataclass(frozen=True)
class Named:
    """A function, or a method under the name of its class, with its block."""

    names: tuple[str, ...]
    """What has to be named for it to run; empty where it always may, as what a decorator registers."""
    body: list[ast.stmt]
    scope: Scope
    method: str = ""
    """Its own name after a dot, which has to be named too: of a class that stands on none of a library, which would call it."""

    called: str = ""
    """Its own name after a dot too, where the script calls that itself: it surely runs where that surely does."""

    def may_run(self, named: Container[str]) -> bool:
        """Tell whether it may run where these are named."""
        is_known = not self.names or any(name in named for name in self.names)
        return is_known and (not self.method or self.method in named)


@dataclass(frozen=True)
class Meaning:
    """What the names and attributes of one file may mean."""

    own: Mapping[str, str]
    """A bare name -> that of the one function which the file itself calls so."""
    modules: Container[str] | None
    """The names that may be modules there; None where any name may be one."""

    def of(self, node: ast.Name | ast.Attribute) -> tuple[str, ...]:
        """Return what a node names: `trainer.train` no function `train` of a file, where `trainer` is surely no module."""
        if isinstance(node, ast.Name):
            return (self.own.get(node.id, node.id),)
        root = parts_of(node)[0]
        may_be_module = self.modules is None or (
            isinstance(root, ast.Name) and root.id in self.modules
        )
        return (as_method(node.attr), node.attr) if may_be_module else (as_method(node.attr),)


def as_method(name: str) -> str:
    """Return the name by which a method is told from a function that is called so."""
    return f".{name}"


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
    means: Mapping[str, Meaning],
) -> frozenset[int]:
    """Return the ids of the scopes of functions that may run, from what the modules and those functions name.

    `renamed` has the names that imports give, and what they are called where they are defined; `means` what the names of a
    file mean.
    """
    of_name = by_name(functions)
    ready = [each for each in functions if each.may_run(())]
    named: set[str] = set()
    found: set[int] = set()
    new = [name for body, path in modules for name in names_in(body, means[path])]
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
                new += names_in(each.body, means[each.scope.path])
        ready = []
    return frozenset(found)


def by_name(functions: Iterable[Named]) -> Callable[[str], Sequence[Named]]:
    """Return what gives the functions that a name makes run, or may."""
    held: dict[str, list[Named]] = {}
    for function in functions:
        for name in {*function.names, function.method, function.called} - {""}:
            held.setdefault(name, []).append(function)
    return lambda name: held.get(name, ())


def names_in(body: Sequence[ast.AST], means: Meaning) -> set[str]:
    """Return the names and attributes that a block uses; those of functions and classes in it are their own."""
    names: set[str] = set()
    for node in walk_block(body):
        if isinstance(node, (ast.Name, ast.Attribute)):
            names.update(means.of(node))
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
    """Return all that expressions name, each as a function and as a method: a class names its own methods bare."""
    names: set[str] = set()
    for part in parts:
        for node in walk(part):
            name = getattr(node, "id", "") or getattr(node, "attr", "")
            if name and isinstance(node, (ast.Name, ast.Attribute)):
                names |= {name, as_method(name)}
    return names


def meanings(
    own: Mapping[str, Mapping[str, str]],
    trees: Mapping[str, ast.Module],
    imports: Mapping[str, Mapping[str, tuple[str, str]]],
    libraries: Mapping[str, Iterable[str]],
) -> dict[str, Meaning]:
    """Return file -> what its names mean; what it imports may be modules, and any name may where modules are handed on."""
    may_be_any = any(_hands_on(tree, imports[path]) for path, tree in trees.items())
    found: dict[str, Meaning] = {}
    for path in trees:
        roots = frozenset(name.partition(".")[0] for name in (*imports[path], *libraries[path]))
        found[path] = Meaning(own.get(path, {}), None if may_be_any else roots)
    return found


def _hands_on(tree: ast.Module, imports: Mapping[str, tuple[str, str]]) -> bool:
    """Tell whether a file gives another name to a module of the repository: it hands one on, or finds one by its name."""
    modules = {local for local, (_, name) in imports.items() if not name}
    every = walk(tree)
    held = {id(node.value) for node in every if isinstance(node, ast.Attribute)}
    for node in every:
        if isinstance(node, ast.Name) and node.id in modules and id(node) not in held:
            return True
        if isinstance(node, (ast.Name, ast.Attribute)) and _finds_modules(node):
            return True
    return False


def asks_by_name(node: ast.AST) -> bool:
    """Tell whether a node is `getattr(x, name)` of a name that only running tells: any method may be the one."""
    if not isinstance(node, ast.Call) or getattr(node.func, "id", "") != "getattr":
        return False
    return not any(isinstance(each, ast.Constant) for each in node.args[1:2])


def _finds_modules(node: ast.Name | ast.Attribute) -> bool:
    """Tell whether a node is what finds a module by its name: a function of importlib's, or `sys.modules`."""
    if isinstance(node, ast.Attribute) and node.attr == "modules":
        return last_name(node.value) == "sys"
    return last_name(node) in _FINDS_MODULES


_FINDS_MODULES = frozenset({"import_module", "__import__", "load_module", "module_from_spec"})
