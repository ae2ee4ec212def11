"""The folders in which the packages may lie that a script imports."""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping
from functools import lru_cache

from preflight.launch import LaunchCommand
from preflight.scripts.python.nodes import unparse
from preflight.scripts.python.trees import nodes_of, source_of

MAX_FOLDERS = 6
"""Above a script, in which its packages are looked for: `src/` in `from pkg.args import X` of `src/pkg/train/run.py`."""
PACKAGES = ("pyproject.toml", "setup.py")
"""What lies beside a package that a repository installs."""


def package_folders(command: LaunchCommand, folder: str, module: str = "") -> list[str]:
    """Return the folders in which a script's packages may lie: its own, those above, `src` in each of them, and what it adds.

    Above the launch's own folder it is the package that the repository installs, and the one of a module that is given
    which the launch lies in.
    """
    above = [*_folders_above(folder), ""]
    installed = _installed_from(os.path.abspath(command.cwd))
    above = list(dict.fromkeys([*above, *([] if installed is None else [installed])]))
    sources = (os.path.join(each, "src") for each in above)
    return [*above, *sources, *added_folders(command), *folders_around(command, module)]


@lru_cache(maxsize=8)
def _installed_from(cwd: str) -> str | None:
    """Return the nearest folder above one that holds a package to install, as a relative path."""
    above = cwd
    for _ in range(MAX_FOLDERS):
        above = os.path.dirname(above)
        if any(os.path.isfile(os.path.join(above, name)) for name in PACKAGES):
            return os.path.relpath(above, cwd)
    return None


def folders_around(command: LaunchCommand, module: str) -> list[str]:
    """Return the folder that holds the package of a module in which a launch lies, where it lies in one."""
    around = _folder_around(os.path.abspath(command.cwd), module.partition(".")[0])
    return [] if around is None else [around]


@lru_cache(maxsize=64)
def _folder_around(cwd: str, package: str) -> str | None:
    """Return the nearest folder above one that holds the package of a name in which it lies, as a relative path: of `pkg` in
    `.../pkg/train` the one of `pkg`, which has to be on the path where its modules are imported by that name."""
    above = cwd
    for _ in range(MAX_FOLDERS if package else 0):
        inner, above = above, os.path.dirname(above)
        if os.path.basename(inner) == package:
            return os.path.relpath(above, cwd)
    return None


def _folders_above(folder: str) -> list[str]:
    """Return a folder and those above it, as far as its path says them."""
    folders = [folder]
    while folder not in ("", os.sep, ".", "..") and len(folders) < MAX_FOLDERS:
        folder = os.path.dirname(folder)
        folders.append(folder)
    return folders


def added_folders(command: LaunchCommand) -> list[str]:
    """Return the folders that the script of a launch adds to `sys.path`, as paths from the launch's folder.

    One that only running tells is none: `sys.path.append(os.environ["HOME"])`.
    """
    scripts = [word for word in command.argv if word.endswith(".py") and command.exists(word)]
    found = [each for script in scripts for each in _added_by(command, script)]
    return [os.path.relpath(each, os.path.abspath(command.cwd)) for each in dict.fromkeys(found)]


def _added_by(command: LaunchCommand, script: str) -> list[str]:
    try:
        text = source_of(command, script)
    except (OSError, UnicodeDecodeError):
        return []
    here = os.path.abspath(command.resolve(script))
    paths = _paths_added(text, here) if "sys.path" in text else ()
    return [os.path.normpath(os.path.join(command.cwd, path)) for path in paths]


@lru_cache(maxsize=8)
def _paths_added(text: str, here: str) -> tuple[str, ...]:
    """Return what a script adds to `sys.path`; it is asked for again for each of its imports."""
    nodes = nodes_of(text)
    assigned: dict[str, list[ast.expr]] = {}
    for node in nodes:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            assigned.setdefault(node.targets[0].id, []).append(node.value)
    names = {name: values[0] for name, values in assigned.items() if len(values) == 1}
    paths = [
        _path(node.args[-1], here, names, 0)
        for node in nodes
        if isinstance(node, ast.Call) and node.args and unparse(node.func) in ADDING
    ]
    return tuple(path for path in paths if path is not None)


ADDING = ("sys.path.append", "sys.path.insert")
_AS_IT_IS = ("abspath", "realpath", "normpath", "expanduser", "str", "Path", "resolve", "absolute", "fspath")  # fmt: skip
"""Functions and methods whose result is the same place."""
_CONSTANTS = {"os.path.pardir": "..", "os.pardir": "..", "os.curdir": ".", "os.path.curdir": "."}


def _path(node: ast.expr, here: str, names: Mapping[str, ast.expr], depth: int) -> str | None:
    """Return the path that an expression means in the file `here`; None where only running tells."""

    def of(inner: ast.expr) -> str | None:
        return _path(inner, here, names, depth + 1)

    if depth > MAX_FOLDERS * 2:
        return None
    written = unparse(node)
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if written in _CONSTANTS:
        return _CONSTANTS[written]
    if isinstance(node, ast.Name):
        if node.id == "__file__":
            return here
        return of(names[node.id]) if node.id in names else None
    if isinstance(node, ast.Attribute) and node.attr == "parent":
        return _above(of(node.value), 1)
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute):
        index = node.slice.value if isinstance(node.slice, ast.Constant) else None
        if node.value.attr != "parents" or not isinstance(index, int) or index < 0:
            return None
        return _above(of(node.value.value), index + 1)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        return _joined([of(node.left), of(node.right)])
    if not isinstance(node, ast.Call):
        return None
    name = written.partition("(")[0].rpartition(".")[2] if node.args else ""
    if isinstance(node.func, ast.Attribute) and not node.args:
        if written in ("os.getcwd()", "Path.cwd()", "pathlib.Path.cwd()"):
            return ""
        return of(node.func.value) if node.func.attr in _AS_IT_IS else None
    if name == "join":
        return _joined([of(each) for each in node.args])
    if name == "dirname":
        return _above(of(node.args[0]), 1)
    return of(node.args[0]) if name in _AS_IT_IS else None


def _above(path: str | None, steps: int) -> str | None:
    for _ in range(steps):
        path = None if path is None else os.path.dirname(path) or os.path.join(path, "..")
    return path


def _joined(parts: list[str | None]) -> str | None:
    known = [part for part in parts if part is not None]
    return os.path.join(*known) if len(known) == len(parts) else None
