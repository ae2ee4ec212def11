"""The files of a repository as Python sees them: what each defines at its top, and which file gives a name that it imports.

A file is parsed when somebody asks for it. What is imported under `if TYPE_CHECKING:`, and what a package lists for a
lazy module (`_import_structure`), says where a name is defined, and runs nothing.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import field

from preflight.launch import LaunchCommand
from preflight.scripts.python.assignments import scope_of, walk_block
from preflight.scripts.python.flow import is_main_guard
from preflight.scripts.python.imported_files import LIBRARIES
from preflight.scripts.python.package_folders import folders_around, package_folders
from preflight.scripts.python.scope import Scope, absolute
from preflight.scripts.python.trees import source_of, tree_of
from preflight.values import dataclass

MOST_CHARACTERS = 1_000_000
"""Of one file: more is no training script."""
MOST_STEPS = 8
"""Files through which a name is passed on; also what ends a circle of imports."""
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
BODIES = ("body", "orelse", "finalbody")


@dataclass(frozen=True)
class Module:
    """One file, parsed."""

    path: str
    text: str
    tree: ast.Module
    scope: Scope
    definitions: dict[str, list[Definition]] = field(default_factory=dict)
    """Functions and classes at its top, those under an `if` or a `try` too."""
    imports: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """Name -> modules as the file writes them, each with the name that it has there; empty for the module itself."""
    import_statements: list[ast.Import | ast.ImportFrom] = field(default_factory=list)
    stars: list[str] = field(default_factory=list)
    """Modules all of whose names it takes."""

    def gives(self, name: str) -> bool:
        """Tell whether the file itself says what a name is."""
        return name in self.definitions or name in self.scope.assigned

    @property
    def entry(self) -> list[ast.stmt]:
        """What runs when it is imported: all but what stands under `__main__`."""
        return [node for node in self.tree.body if not is_main_guard(node)]


Key = tuple[str, str]
"""A file's path and a name in it."""
Meant = tuple[Module, str]
"""A file, and a name in it; empty for the file itself."""


class Modules:
    """The files of one launch's repository, found as Python finds them and parsed once."""

    def __init__(
        self, command: LaunchCommand, script: str, scopes: Mapping[str, Scope] | None = None
    ) -> None:
        self.command = command
        self._scopes = scopes or {}
        root = os.path.dirname(command.script_file(script))
        self._folders = package_folders(command, root)
        self._found: dict[tuple[str, str], str | None] = {}
        self._is_near: dict[tuple[str, str], bool] = {}
        self._loaded: dict[str, Module | None] = {}
        self._given: dict[Key, list[Meant]] = {}
        self.passed_on: set[Key] = set()
        """File and name in it, of imports through which something was asked for."""
        self.unread: dict[str, str] = {}
        """Files that are no Python of this version, or too deep to be read, and their text."""

    def load(self, path: str) -> Module | None:
        """Return a file; None where it cannot be read or parsed."""
        if path not in self._loaded:
            self._loaded[path] = self._load(path)
        return self._loaded[path]

    def _load(self, path: str) -> Module | None:
        text = ""
        try:
            text = source_of(self.command, path)
            if len(text) > MOST_CHARACTERS:
                return None
            tree = tree_of(text)
            scope = self._scopes.get(path) or scope_of(tree.body, walk_block(tree.body), path)[0]
        except (OSError, UnicodeDecodeError):
            return None
        except (SyntaxError, ValueError, RecursionError):
            self.unread[path] = text
            return None
        module = Module(path, text, tree, scope)
        for node, is_at_top in _statements(tree.body):
            if isinstance(node, Definition) and is_at_top:
                module.definitions.setdefault(node.name, []).append(node)
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                module.import_statements.append(node)
                _note_import(node, module)
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
                _note_lazy(node, node.value, module)
        return module

    def given(self, module: Module, name: str, noted: set[Key] | None = None) -> list[Meant]:
        """Return what a name of a file means: where it is defined and its name there, or a whole file.

        The imports on the way are added to `noted`.
        """
        key = (module.path, name)
        if noted is not None or key not in self._given:
            self._given[key] = list(self._meant(module, name, noted, 0))
        return self._given[key]

    def _meant(
        self, module: Module, name: str, noted: set[Key] | None, depth: int
    ) -> Iterator[Meant]:
        if depth > MOST_STEPS:
            return
        if module.gives(name):
            yield module, name
        for written, original in module.imports.get(name, ()):
            if noted is not None:
                noted.add((module.path, name))
            found = self.find(module.path, written)
            other = None if found is None else self.load(found)
            if other is not None and original:
                yield from self.member(other, original, noted, depth + 1)
            elif other is not None:
                yield other, ""
        if name not in module.imports and not module.gives(name):
            for written in module.stars:
                found = self.find(module.path, written)
                other = None if found is None else self.load(found)
                if other is not None:
                    yield from self._meant(other, name, noted, depth + 1)

    def member(
        self, module: Module, name: str, noted: set[Key] | None = None, depth: int = 0
    ) -> Iterator[Meant]:
        """Yield what `module.name` means: a name of the file, or a file beside it where it is a package."""
        found = list(self._meant(module, name, noted, depth))
        if not found and os.path.basename(module.path) == "__init__.py":
            folder = os.path.dirname(module.path)
            path = next((p for p in absolute(folder, name) if self.command.exists(p)), None)
            beside = None if path is None else self.load(os.path.normpath(path))
            found = [] if beside is None else [(beside, "")]
        if not found and "__getattr__" in module.definitions:
            found = [(module, "__getattr__")]
        yield from found

    def find(self, path: str, written: str) -> str | None:
        """Return the file that a file means by a module's name; None for a library's."""
        level = len(written) - len(written.lstrip("."))
        folder = os.path.dirname(path)
        key = (folder, written)
        if key not in self._found:
            self._found[key] = self._find(folder, level, written.lstrip("."))
        return self._found[key]

    def _find(self, folder: str, level: int, module: str) -> str | None:
        top = module.partition(".")[0]
        if level:
            folders = [os.path.normpath(os.path.join(folder, *[".."] * (level - 1)))]
        elif top in LIBRARIES:
            return None
        else:
            above = (*self._folders, *folders_around(self.command, top), folder)
            folders = [each for each in above if self._has(each, top)]
        for each in dict.fromkeys(folders):
            base = os.path.join(each, *[part for part in module.split(".") if part])
            for candidate in (f"{base}.py", os.path.join(base, "__init__.py")):
                if self.command.exists(candidate):
                    return os.path.normpath(candidate)
        return None

    def _has(self, folder: str, top: str) -> bool:
        """Tell whether a folder has a file or a package of a name; a standard module's counts beside the script alone."""
        if top in sys.stdlib_module_names and folder != self._folders[0]:
            return False
        key = (folder, top)
        if key not in self._is_near:
            base = self.command.resolve(os.path.join(folder, top))
            self._is_near[key] = os.path.isfile(f"{base}.py") or os.path.isdir(base)
        return self._is_near[key]


def _statements(body: list[ast.stmt]) -> Iterator[tuple[ast.stmt, bool]]:
    """Yield every statement of a file, and whether it stands in no function or class."""
    waiting = [(node, True) for node in reversed(body)]
    while waiting:
        node, is_at_top = waiting.pop()
        yield node, is_at_top
        inner = [each for name in BODIES for each in getattr(node, name, ())]
        for other in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
            inner += other.body
        is_top = is_at_top and not isinstance(node, Definition)
        waiting += [(each, is_top) for each in reversed(inner)]


def written_in(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str]]:
    """Yield the modules that an import statement may run, each with the name that it takes of it; empty for itself."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, "") for alias in node.names)
        return
    module = "." * node.level + (node.module or "")
    yield from ((module, alias.name) for alias in node.names)


def joined(module: str, name: str) -> str:
    """Return the module that `from module import name` may mean."""
    return f"{module}{name}" if module.endswith(".") else f"{module}.{name}"


def _note_import(node: ast.Import | ast.ImportFrom, module: Module) -> None:
    if isinstance(node, ast.Import):
        for alias in node.names:
            local = alias.asname or alias.name.partition(".")[0]
            written = alias.name if alias.asname else local
            module.imports.setdefault(local, []).append((written, ""))
        return
    written = "." * node.level + (node.module or "")
    for alias in node.names:
        if alias.name == "*":
            module.stars.append(written)
        else:
            held = module.imports.setdefault(alias.asname or alias.name, [])
            held.append((written, alias.name))


def _note_lazy(node: ast.Assign, value: ast.Dict, module: Module) -> None:
    """Note `_import_structure = {"submodule": ["Name", ...]}`, from which a lazy module gives its names."""
    if not isinstance(node.targets[0], ast.Name) or node.targets[0].id != "_import_structure":
        return
    for key, names in zip(value.keys, value.values, strict=True):
        submodule = key.value if isinstance(key, ast.Constant) else None
        if isinstance(submodule, str) and isinstance(names, (ast.List, ast.Tuple)):
            for each in names.elts:
                if isinstance(each, ast.Constant) and isinstance(each.value, str):
                    held = module.imports.setdefault(each.value, [])
                    held.append((f".{submodule}", each.value))
