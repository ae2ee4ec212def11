"""A training script and the files of the repository that it imports: their functions, classes, names and calls."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property

from preflight.launch import LaunchCommand
from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.assignments import scope_of, walk_block
from preflight.scripts.python.changes_elsewhere import note_changes_elsewhere, note_names_of_modules
from preflight.scripts.python.class_table import ClassTable
from preflight.scripts.python.commands import entry_calls, is_command
from preflight.scripts.python.dataclass_fields import DATACLASS_PARSERS
from preflight.scripts.python.flow import is_main_guard
from preflight.scripts.python.imported_files import ImportedFiles
from preflight.scripts.python.methods import is_plain_method, receiver_of
from preflight.scripts.python.nodes import all_arguments, branches_of, last_name, unparse, walk
from preflight.scripts.python.reached import (
    Meaning,
    Named,
    as_method,
    asks_by_name,
    in_file,
    meanings,
    own_functions,
    reached,
)
from preflight.scripts.python.scope import Scope
from preflight.scripts.python.trees import tree_of
from preflight.values import dataclass

_NAMES = (ast.Name, ast.Attribute)


@dataclass(frozen=True)
class CallFound:
    """A call of interest with the scope that it stands in."""

    name: str
    node: ast.Call
    scope: Scope


class ScriptFiles(ImportedFiles):
    """One script with the files of the repository that it imports, one level deep; nothing is evaluated.

    A file that defines nothing itself and calls what it imports (`from pkg.train import train; train()`) is no level.
    Where neither the script nor the file that it calls makes a model, an adapter or a trainer, what that file calls is
    followed too: a command line in `pkg/cli.py`, the run in `pkg/train.py`, and the model in `pkg/model.py`.
    """

    def __init__(self, command: LaunchCommand, path: str, text: str) -> None:
        super().__init__(command)
        self.path = path
        self.functions: dict[str, list[tuple[ast.FunctionDef, Scope]]] = {}
        self.of_file: dict[str, list[tuple[ast.FunctionDef, Scope]]] = {}
        """`file:name` -> the functions at the top of a file that it calls so."""
        self.classes = ClassTable(self.imports, self.libraries)
        self.everywhere: list[CallFound] = []
        """Every call, of branches that are not taken too: what declares the command line."""
        self.trees: dict[str, ast.Module] = {}
        self.nodes: list[ast.AST] = []
        """Every node of every tree."""
        self.blocks: list[tuple[list[ast.stmt], Scope]] = []
        self.commands: list[tuple[ast.FunctionDef, Scope, Scope]] = []
        """What typer, click or fire calls, its scope and the one around it."""
        self._entry_calls: list[str] = []
        """Calls of fire and typer of the script itself, whose function may stand in a file that it imports."""
        self._named: list[Named] = []
        self._methods: dict[int, tuple[str, ast.FunctionDef]] = {}
        """Id of a method's scope -> the name of its class, and the method."""
        self._load(path, tree_of(text), depth=0)
        self.classes.called = frozenset(each.name for each in self.everywhere)
        calls = ((each.name, each.node, each.scope) for each in self.everywhere)
        note_changes_elsewhere((scope for _, scope in self.blocks), self.functions, calls)
        note_names_of_modules(self.trees, self.imports, self.modules)
        self._leave_out_what_nothing_names()

    def body_of(self, scope: Scope) -> list[ast.stmt]:
        """Return the statements of a block that may run; none of another one."""
        return next((body for body, each in self.blocks if each is scope), [])

    def class_of(self, name: str, path: str) -> tuple[ast.ClassDef, Scope] | None:
        """Return the class that a name of a file means, where it is one of the script's own."""
        return self.classes.of(name, path)

    def class_around(self, scope: Scope) -> str:
        """Return the name of the class that a method is of; empty for any other block."""
        return self._methods.get(id(scope), ("", None))[0]

    def methods_of_classes(self) -> Iterator[tuple[str, ast.FunctionDef, Scope]]:
        """Yield the name of a class, a method of it, and its block."""
        scopes = {id(scope): scope for held in self.functions.values() for _, scope in held}
        for key, (name, method) in self._methods.items():
            yield name, method, scopes[key]

    def makes_trainer(self, call: CallFound) -> bool:
        """Tell whether a call makes a trainer: of a class that is called one, of the script's own that stands on one, or of
        either that a variable may hold: `kind = Own if wide else SFTTrainer`."""
        func = call.node.func
        holder = call.scope.holder(call.name) if isinstance(func, ast.Name) else None
        held = [] if holder is None else holder.assigned.get(call.name, [])
        ways = [each for one in held for each in branches_of(one) if isinstance(each, _NAMES)]
        classes = map(last_name, ways)
        return any(self._trains(name, call.scope.path) for name in (call.name, *classes))

    def _trains(self, name: str, path: str) -> bool:
        held = self.class_of(name, path) if name in self.classes else None
        return name.endswith("Trainer") or (held is not None and self.classes.trains(held[0]))

    @cached_property
    def dataclass_parsers(self) -> frozenset[str]:
        """Classes that make dataclasses of a command line: the libraries', and the script's own on top of them."""
        own = (
            cls.name
            for cls, _ in self.classes.values()
            if any(last_name(base) in DATACLASS_PARSERS for base in cls.bases)
        )
        return frozenset((*DATACLASS_PARSERS, *own))

    @cached_property
    def renamed(self) -> dict[str, str]:
        """Name that an import of the repository's own gives -> what it is called where it is defined."""
        return {
            local: name
            for names in self.imports.values()
            for local, (_, name) in names.items()
            if name and name != local
        }

    @cached_property
    def means(self) -> Mapping[str, Meaning]:
        """File -> what its names mean: the function that the file itself calls so, whatever others do, and what is a module."""
        given = {p: {*self.imports[p], *scope.assigned} for p, scope in self.modules.items()}
        own = own_functions(self._named, given)
        return meanings(own, self.trees, self.imports, self.libraries)

    def _leave_out_what_nothing_names(self) -> None:
        """Forget the blocks and calls of functions that nothing which runs speaks of."""
        modules = [(body, scope.path) for body, scope in self.blocks if scope.outer is None]
        if not any(map(asks_by_name, self.nodes)):
            self._named = [replace(each, method=self._only_by_name(each)) for each in self._named]
        may_run = reached(modules, self._named, self.renamed, self.means)
        may_run |= {id(scope) for scope in self.modules.values()}
        self.blocks = [each for each in self.blocks if id(each[1]) in may_run]
        self.everywhere = [each for each in self.everywhere if id(each.scope) in may_run]

    def _only_by_name(self, function: Named) -> str:
        """Return the name of a method that only a call of this name runs; empty where a library, Python or a command line may
        run it too."""
        of_class, method = self._methods.get(id(function.scope), ("", None))
        held = self.class_of(of_class, function.scope.path)
        if method is None or held is None or method.name.startswith("__"):
            return ""
        is_command = any(of_class in call for call in self._entry_calls)
        is_marked = not is_plain_method(method) or held[0].decorator_list
        is_open = is_command or is_marked or not self.classes.is_own(held[0])
        return "" if is_open else as_method(method.name)

    def _load(self, path: str, tree: ast.Module, depth: int, hands_on: bool = True) -> None:
        """Read a file; `hands_on` says that none of those which lead to it makes what trains."""
        if path != self.path:
            # Under `__main__` stands what another launch of this file would do.
            tree = ast.Module([node for node in tree.body if not is_main_guard(node)], [])
        self.trees[path] = tree
        is_thin = depth == 0 and not any(isinstance(node, _DEFINITIONS) for node in tree.body)
        in_block = list(walk_block(tree.body))
        module, functions = scope_of(tree.body, in_block, path)
        self.modules[path] = module
        self.imports[path] = {}
        self.libraries[path] = {}
        every = walk(tree)
        self.nodes += every
        unparsed = [text for node in every for text in entry_calls(node, self.command.argv, every)]
        if path == self.path:
            self._entry_calls = unparsed
        stood_on = {
            unparse(base).partition(".")[0]
            for node in tree.body
            if isinstance(node, ast.ClassDef)
            for base in node.bases
        }
        called = {_called(node) for node in every}
        hands_on = hands_on and not any(map(_MAKES.search, called))
        wanted = None if depth == 0 else stood_on | called if hands_on else stood_on
        for node in every:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                self._import(path, node, wanted, 0 if is_thin else depth + 1, hands_on)
        if depth == 0:
            self._follow_dotted(path, every, 0 if is_thin else depth + 1)
        self._add_block(tree.body, in_block, module)
        self._add_functions(functions, module, unparsed)
        guards = (node for node in tree.body if isinstance(node, ast.If) and is_main_guard(node))
        for node in (*tree.body, *(each for guard in guards for each in guard.body)):
            if isinstance(node, ast.ClassDef):
                self.classes.add(node, module)
                methods = [item for item in node.body if isinstance(item, ast.FunctionDef)]
                self._add_functions(methods, module, [], node.name)

    def _add_block(self, body: list[ast.stmt], nodes: list[ast.AST], scope: Scope) -> None:
        self.blocks.append((body, scope))
        for node in nodes:
            if isinstance(node, ast.Call):
                self.everywhere.append(CallFound(last_name(node.func), node, scope))

    def _add_functions(
        self,
        functions: Iterable[ast.FunctionDef],
        outer: Scope,
        called_here: list[str],
        of_class: str = "",
    ) -> None:
        for function in functions:
            nodes = list(walk_block(function.body))
            scope, inner = scope_of(function.body, nodes, outer.path, outer)
            scope = replace(scope, receiver=receiver_of(function) if of_class else "")
            scope.arguments.update(argument.arg for argument in all_arguments(function))
            if is_command(function, [*called_here, *self._entry_calls], of_class):
                self.commands.append((function, scope, outer))
            self.functions.setdefault(function.name, []).append((function, scope))
            self._add_block(function.body, nodes, scope)
            names: tuple[str, ...] = (of_class or function.name,)
            if not of_class and outer.outer is None:
                names = (function.name, in_file(outer.path, function.name))
                self.of_file.setdefault(names[1], []).append((function, scope))
            is_registered = bool(function.decorator_list) and not of_class
            if of_class:
                self._methods[id(scope)] = (of_class, function)
            self._named.append(Named(() if is_registered else names, function.body, scope))
            self._add_functions(inner, scope, [])


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_MAKES = lazy_pattern(
    r"Trainer$|^(?:from_pretrained|from_config|get_peft_model|Accelerator|initialize)$"
)
"""Calls that make what trains: a model, an adapter on one, a trainer or an engine."""


def _called(node: ast.AST) -> str:
    """Return the name that a call gives, empty for what is none."""
    return last_name(node.func) if isinstance(node, ast.Call) else ""
