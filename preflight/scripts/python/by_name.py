"""Calls that reach a function by a name which is made when the script runs, and what such a name may mean."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from preflight.scripts.python.assignments import CHANGING
from preflight.scripts.python.modules import Module, Modules
from preflight.scripts.python.nodes import is_namespace, last_name, parts_of, unparse
from preflight.scripts.python.reach_values import ReachValues
from preflight.scripts.python.scope import UNKNOWN, Parsed, Scope

EVERYTHING = "*"
"""Anything of any file."""
ALL_OF_FILE = "."
"""Anything that the file of the call defines or imports."""
OF_FILE = ("globals", "eval", "exec")
OF_ANY_FILE = (
    "__subclasses__",
    "run_path",
    "run_module",
    "spec_from_file_location",
    "exec_module",
    "iter_modules",
    "walk_packages",
)
IMPORTS = ("import_module", "__import__")
OF_LIBRARIES = ("hydra", "pydoc")
"""Whose functions make an object of a dotted name."""
GETS = ("getattr", "methodcaller", "attrgetter")


def name_made(
    node: ast.Call, module: Module, scope: Scope, modules: Modules, values: ReachValues
) -> str | None:
    """Return the attribute that a call gets by a name, empty for any; EVERYTHING or ALL_OF_FILE; None for other calls."""
    func = node.func
    name = _name(func, module)
    if name in GETS:
        place = 1 if name == "getattr" else 0
        if len(node.args) <= place or (
            place and _is_no_object(node.args[0], module, scope, modules, values)
        ):
            return None
        told = values.value(node.args[place], scope)
        return told if isinstance(told, str) and told else ""
    if isinstance(func, ast.Attribute) and unparse(func.value) == "sys.modules":
        return EVERYTHING
    if isinstance(func, ast.Name) and name in OF_FILE:
        return ALL_OF_FILE
    if name in ("Fire", "vars", "locals") and not node.args:
        return ALL_OF_FILE
    if name in OF_ANY_FILE or (name in IMPORTS and not _is_known(node, scope, values)):
        return EVERYTHING
    root = unparse(func).partition(".")[0]
    imported = [written.partition(".")[0] for written, _ in module.imports.get(root, ())]
    return EVERYTHING if any(each in OF_LIBRARIES for each in imported) else None


def _name(func: ast.expr, module: Module) -> str:
    """Return the name of a call's function where it is defined."""
    name = last_name(func)
    imported = module.imports.get(name, ()) if isinstance(func, ast.Name) else ()
    return next((original for _, original in imported if original), name)


def sets_any_attribute(node: ast.Call, values: ReachValues, scope: Scope) -> bool:
    """Tell whether a call sets attributes under names that are not known: `setattr(args, key, value)`."""
    if last_name(node.func) in ("setattr", "__setattr__"):
        place = len(node.args) - 2
        return place < 0 or not isinstance(values.value(node.args[place], scope), str)
    is_change = isinstance(node.func, ast.Attribute) and node.func.attr in (*CHANGING, "update")
    return is_change and is_namespace(node.func.value)  # type: ignore[attr-defined]


def imported_by_name(
    node: ast.Call, module: Module, scope: Scope, modules: Modules, values: ReachValues
) -> Iterator[Module]:
    """Yield the files of the repository that a call imports by their name, as far as that is known."""
    if _name(node.func, module) not in IMPORTS or not node.args:
        return
    for name in values.possible(node.args[0], scope):
        path = modules.find(scope.path, name) if isinstance(name, str) else None
        found = None if path is None else modules.load(path)
        if found is not None:
            yield found


def _is_known(node: ast.Call, scope: Scope, values: ReachValues) -> bool:
    """Tell whether it is known what an import by a name gives, whoever calls its function."""
    names = values.possible(node.args[0], scope) if node.args else [UNKNOWN]
    return all(isinstance(name, str) and name[:1] != "." for name in names)


def of_subscript(node: ast.Subscript, module: Module) -> str | None:
    """Return what `sys.modules[name]` and `globals()[name]` may mean: a name of the file, or as name_made does."""
    held, key = unparse(node.value), node.slice
    if held == "globals()" and isinstance(key, ast.Constant) and isinstance(key.value, str):
        return key.value
    if held != "sys.modules" or isinstance(node.ctx, ast.Store):
        return None
    return ALL_OF_FILE if unparse(key) == "__name__" else EVERYTHING


def is_lazy_module(cls: ast.ClassDef | None) -> bool:
    """Tell whether a class is a module that imports what it is asked for: its names say where they come from."""
    return cls is not None and any(last_name(base) == "ModuleType" for base in cls.bases)


def _is_no_object(
    node: ast.expr, module: Module, scope: Scope, modules: Modules, values: ReachValues
) -> bool:
    """Tell whether something has no methods of the repository's own: parsed arguments, a library."""
    if isinstance(values.value(node, scope), Parsed):
        return True
    node = parts_of(node)[0]
    if not isinstance(node, ast.Name) or scope.holds(node.id):
        return False
    written = module.imports.get(node.id, ())
    is_own = module.gives(node.id) or any(modules.find(module.path, each) for each, _ in written)
    return bool(written) and not is_own
