"""What the names of running lines mean: functions and classes of the repository, followed through imports."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import replace

from preflight.scripts.python.assignments import scope_of, walk_block
from preflight.scripts.python.lookups import Entry
from preflight.scripts.python.methods import receiver_of
from preflight.scripts.python.modules import FUNCTIONS, Definition, Meant, Module
from preflight.scripts.python.nodes import last_name, parts_of, walk
from preflight.scripts.python.reach_values import Parameters
from preflight.scripts.python.scope import Known, Scope
from preflight.scripts.reach.reach_files import Block, ReachFiles


class ReachNames(ReachFiles):
    """Names, and the functions, classes and files that they make run."""

    def _use(self, module: Module, name: str) -> None:
        if (module.path, name) in self.used:
            return
        self.used.add((module.path, name))
        for found in self.modules.given(module, name, self.modules.passed_on):
            self._use_meant(*found)

    def _use_meant(self, module: Module, name: str) -> None:
        self._enter(module)
        if not name:
            self._use_all(module)
            return
        self.used.add((module.path, name))
        for node in module.definitions.get(name, ()):
            self._use_definition(node, module, module.scope)
        if name == "__getattr__":
            self._use_all(module)

    def _use_all(self, module: Module, by_any_name: bool = False) -> None:
        """Use all that a file defines, and what it imports of others; by any name, all that those define too."""
        if (module.path, by_any_name) in self.whole:
            return
        self.whole.add((module.path, by_any_name))
        self.handed_on |= {id(node) for held in module.definitions.values() for node in held}
        for name in (*module.definitions, *module.imports):
            for other, held in self.modules.given(module, name):
                if held:
                    self._use_meant(other, held)
                    self.handed_on |= {id(each) for each in other.definitions.get(held, ())}
                elif by_any_name:
                    self._use_meant(other, "")
        for written in module.stars:
            path = self.modules.find(module.path, written)
            other_module = None if path is None else self.modules.load(path)
            if other_module is not None:
                self._use_meant(other_module, "")

    def _use_definition(self, node: Definition, module: Module, outer: Scope) -> None:
        if isinstance(node, ast.ClassDef):
            for each in self.classes.use(node, module, outer):
                self._start(each.node, each.module, each.outer, each.cls)
            return
        self._start(node, module, outer, None)

    def _start(
        self, node: Definition, module: Module, outer: Scope, cls: ast.ClassDef | None
    ) -> None:
        """Begin to look at a function, a method, or what a class's body itself does."""
        if module.path not in self.lines:
            self._enter(module)
        if id(node) in self.seen_definitions or module.path not in self.lines:
            return
        self.seen_definitions.add(id(node))
        body = [each for each in node.body if not _is_method(each, node)]
        nodes = list(walk_block(body))
        scope, _ = scope_of(body, nodes, module.path, outer)
        if isinstance(node, FUNCTIONS):
            arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            more = [each for each in (node.args.vararg, node.args.kwarg) if each is not None]
            scope.arguments.update(each.arg for each in (*arguments, *more))
            parameters = Parameters(self.values, node, self._of_command(node))
            receiver = "" if cls is None else receiver_of(node)
            scope = replace(scope, parameters=parameters, receiver=receiver)
            parameters.scope = scope
        self.classes.note_scope(scope, node, cls)
        first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
        inner = node.body[0].lineno
        self.lines[module.path].update(range(first, max(inner, node.lineno + 1)))
        if isinstance(node, ast.ClassDef):
            self.handled |= {id(each) for each in node.bases}  # named, and handed to nobody
            for base in (*node.bases, *node.keywords):
                self._all_names(base, module)
        self._add(Block(module, body, scope))

    def _of_command(self, node: Definition) -> dict[str, Known]:
        """Return the parameters that a command line interface gives a function."""
        commands = self.reader.commands if self.reader is not None else ()
        return next((dict(scope.parameters) for f, scope, _ in commands if f is node), {})

    def _all_names(self, node: ast.AST, module: Module) -> None:
        """Use all that an expression names, whatever is around it."""
        for each in walk(node):
            if isinstance(each, ast.Attribute):
                self._attribute(each, module)
            elif isinstance(each, ast.Name) and id(each) not in self.handled:
                self._name(each, module)
            elif each is node and isinstance(each, ast.Name):
                self._use(module, each.id)

    def _attribute(self, node: ast.Attribute, module: Module) -> None:
        found = self._meant(node, module)
        for each in found:
            self._use_meant(*each)
            if id(node) not in self.handled:
                self.handed_on |= {id(d) for d in each[0].definitions.get(each[1], ())}
            if id(node) not in self.keyed:
                self._whole_table(*each)
        if isinstance(node.value, ast.Name) and self._is_class(node.value, module):
            self._use_name_only(node.value, module)
        self._use_methods(node.attr)
        if id(node) not in self.handled:
            self.handed_on.add(node.attr)

    def _whole_table(self, module: Module, name: str) -> None:
        """Use all that a table of a file holds, if that is one."""
        self.lookups.expect((module.path, name))
        if self.lookups.has((module.path, name)):
            self._mapped(self.lookups.all_of((module.path, name)))

    def _is_class(self, node: ast.Name, module: Module) -> bool:
        """Tell whether a name means a class of the repository."""
        return any(
            isinstance(each, ast.ClassDef)
            for other, name in self.modules.given(module, node.id)
            for each in other.definitions.get(name, ())
        )

    def _use_methods(self, name: str) -> None:
        for each in self.classes.use_methods(name):
            self._start(each.node, each.module, each.outer, each.cls)

    def _meant(self, node: ast.expr, module: Module) -> list[Meant]:
        """Return what a dotted name means, if it begins with a file; nothing of it is used as a whole file then."""
        root, *parts = parts_of(node)
        if not isinstance(root, ast.Name) or root.id not in module.imports:
            return []
        found = self.modules.given(module, root.id, self.modules.passed_on)
        if not found or any(name for _, name in found):
            return []
        self.handled |= {id(root), *map(id, parts[:-1])}
        for name in map(last_name, parts):
            for other, held in found:
                if not held:
                    self._enter(other)
            found = [
                each
                for other, held in found
                for each in (
                    [(other, held)]
                    if held
                    else self.modules.member(other, name, self.modules.passed_on)
                )
            ]
        return found

    def _name(self, node: ast.Name, module: Module) -> None:
        """Use what a name means, which is not called here: nobody knows with what it will be."""
        self._use(module, node.id)
        if isinstance(node.ctx, ast.Load):
            table = self.lookups.table(node, module)
            self._mapped(self.lookups.all_of(table) if table is not None else ())
            for other, name in self.modules.given(module, node.id):
                self.handed_on |= {id(each) for each in other.definitions.get(name, ())}
                if id(node) not in self.keyed:
                    self.lookups.expect((other.path, name))

    def _use_name_only(self, node: ast.expr, module: Module) -> None:
        self.handled.add(id(node))
        if isinstance(node, ast.Name):
            self._use(module, node.id)

    def _mapped(self, entries: Iterable[Entry]) -> None:
        for each, module in entries:
            self.handled -= {id(inner) for inner in walk(each)}
            self._all_names(each, module)


def _is_method(node: ast.stmt, inside: Definition) -> bool:
    return isinstance(inside, ast.ClassDef) and isinstance(node, FUNCTIONS)
