"""The files that a launch runs, one after another, with what is known of their names."""

from __future__ import annotations

import ast
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Container, Iterable

from preflight.launch import LaunchCommand
from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.bindings import Site
from preflight.scripts.python.classes_used import ClassesUsed
from preflight.scripts.python.lookups import Lookups
from preflight.scripts.python.modules import Module, Modules, joined, written_in
from preflight.scripts.python.nodes import last_name, walk
from preflight.scripts.python.reach_values import ReachValues
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import Known, Parsed, Scope
from preflight.values import dataclass

MOST_FILES = 60
"""Files that are looked into for what a running line names."""
PARSES = lazy_pattern(r"^parse_(?:args|known_args)|^parse_(?:args_and_config|json_file|yaml_file)$")


@dataclass(frozen=True)
class Block:
    """Statements that run one after another, with their names."""

    module: Module
    body: list[ast.stmt]
    scope: Scope


class ReachFiles(ABC):
    """The files that run, and the blocks of them that are to be looked at."""

    def __init__(self, command: LaunchCommand, script: str, reader: ScriptReader | None) -> None:
        self.modules = Modules(command, script, None if reader is None else reader.modules)
        self.reader = reader
        self.top = os.path.dirname(os.path.normpath(command.script_file(script)))
        """The folder of a script that is started as a file: its modules are in no package, unless one is imported by its name."""
        self.is_file = script.endswith(".py")
        self.values = ReachValues(command, self._imported, self._parsed, self._sites)
        self.classes = ClassesUsed(self.modules, self.values)
        self.lookups = Lookups(self.modules, self.values)
        self.files: list[Module] = []
        """Those that run, the script first."""
        self.lines: dict[str, set[int]] = {}
        """File -> numbers of the lines that may run."""
        self.is_whole = True
        """Whether every file that runs was looked into."""
        self.is_followed = True
        """Whether that holds of every file that a running line names; nothing is known of one that is imported alone."""
        self.blocks: dict[int, Block] = {}
        self.queue: deque[Block] = deque()
        self.imported_files: deque[str] = deque()
        self.seen: set[int] = set()
        self.seen_definitions: set[int] = set()
        self.handled: set[int] = set()
        """Nodes that were looked at with what is around them."""
        self.keyed: set[int] = set()
        """Ids of names of which one entry is asked for, `TRAINERS` of `TRAINERS[kind]`."""
        self.attributes: dict[str, list[tuple[Module, ast.Attribute, Scope]]] = {}
        """Attribute -> where running lines read or set it."""
        self.used: set[tuple[str, str]] = set()
        self.functions: dict[int, list[Site]] = {}
        self.by_attribute: dict[str, list[Site]] = {}
        self.handed_on: set[int | str] = set()
        self.pruned: dict[int, Block] = {}
        self.idle: list[tuple[Module, ast.expr]] = []
        """Expressions that only type checkers look at."""
        self.branches: dict[int, tuple[Module, ast.expr]] = {}
        """Parts of `a if b else c` that were once not taken, by id; those that are seen later are."""
        self.whole: set[tuple[str, bool]] = set()
        self.reaches_everything = False
        self.makes_of_class = False
        """Whether a method makes an object of its own class, `cls(...)`."""

    @abstractmethod
    def _sites(
        self, function: ast.FunctionDef | ast.AsyncFunctionDef, scope: Scope
    ) -> list[Site] | None:
        """Return the calls of a function; None where something else may call it too."""

    def _enter(self, module: Module | None) -> None:
        """Run a file that is imported, with the package that it is in."""
        if module is None or module.path in self.lines:
            return
        if len(self.files) >= MOST_FILES:
            self.is_whole = self.is_followed = False
            return
        self._run(module, module.entry)
        folder = os.path.dirname(module.path)
        package = os.path.join(folder, "__init__.py")
        is_in = package != module.path and not (self.is_file and folder == self.top)
        if is_in and self.modules.command.exists(package):
            self.imported_files.append(os.path.normpath(package))

    def _run(self, module: Module, body: list[ast.stmt]) -> None:
        self.files.append(module)
        self.lines[module.path] = set()
        if self.reaches_everything:
            self._keep_all(module)
        else:
            self._add(Block(module, body, module.scope))

    def _add(self, block: Block) -> None:
        if id(block.scope) not in self.blocks:
            self.blocks[id(block.scope)] = block
            self.queue.append(block)

    def _import(self, node: ast.Import | ast.ImportFrom, module: Module) -> None:
        for written, name in written_in(node):
            for each in (written, joined(written, name)) if name else (written,):
                path = self.modules.find(module.path, each)
                if path is None:
                    continue
                found = [path, *self._own_package(path, each)]
                self.imported_files += [file for file in found if file not in self.lines]

    def _own_package(self, path: str, written: str) -> list[str]:
        """Return the package that the script lies in, where a file beside it is imported as a part of that."""
        package = os.path.join(self.top, "__init__.py")
        is_part = os.path.dirname(path) == self.top and "." in written
        return [package] if is_part and self.modules.command.exists(package) else []

    def _keep_all(self, module: Module) -> None:
        self.lines[module.path].update(range(1, module.text.count("\n") + 2))
        for node in walk(module.tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                self._import(node, module)
            elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                self.lines[module.path].difference_update(span(node))

    def _use_everything(self) -> None:
        """Give up telling parts of files apart: any of them may be called, by a name that is made when the script runs."""
        self.is_followed = False
        if not self.reaches_everything:
            self.reaches_everything = True
            self.queue.clear()
            self.pruned.clear()
            for module in self.files:
                self._keep_all(module)

    def _imported(self, path: str, name: str) -> Known | Parsed | None:
        if self.reader is not None and path in self.reader.modules:
            known = self.reader.imported(path, name)
            if known is not None:
                return known
        module = self.modules.load(path)
        local, _, attribute = name.partition(".")
        if module is None or local not in module.imports:
            return None
        found = self.modules.given(module, local)
        if attribute:
            found = [
                each
                for other, held in found
                if not held
                for each in self.modules.member(other, attribute)
            ]
        if len(found) != 1 or not found[0][1] or found[0][0].path == path:
            return None
        value = self.values.name(found[0][1], found[0][0].scope)
        return value if isinstance(value, Known) else None

    def _parsed(self, node: ast.Call, scope: Scope) -> object:
        if self.reader is None:
            return None
        is_near = scope.path in self.reader.modules
        return (
            self.reader.parsed(node, scope)
            if is_near or PARSES.search(last_name(node.func))
            else None
        )


def span(node: ast.stmt | ast.expr) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def may_run(body: Iterable[ast.stmt], lines: Container[int]) -> bool:
    """Tell whether a line of a block is among those that run."""
    return any(line in lines for each in body for line in span(each))
