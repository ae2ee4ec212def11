"""What of a repository a launch runs: from its script, with this command line's arguments.

A file that is imported for one function holds many others: a reward model's loader, a classifier's head, an inference
engine. What stands outside functions runs when a file is imported; of the rest, only what some running line names can
run, and only in branches that these arguments may take. Names are followed through imports, and attributes to every
method of that name of a class that is used. Where a name is made when the script runs, all that it may mean runs.
"""

from __future__ import annotations

import ast
import os

from preflight.launch import LaunchCommand
from preflight.scripts.python.attribute_changes import changed_attributes
from preflight.scripts.python.blocks import reachable
from preflight.scripts.python.classes_used import PLAIN_DECORATORS
from preflight.scripts.python.modules import FUNCTIONS, Definition, Module
from preflight.scripts.python.nodes import last_name, unparse, walk
from preflight.scripts.python.reach_values import attributes_set
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import Scope
from preflight.scripts.reach.reach_calls import ReachCalls
from preflight.scripts.reach.reach_files import Block, span

MOST_IMPORTED = 40
"""Files that are looked into where others are left that are imported and that nothing names."""
TYPES = ("Union", "Optional", "Type", "List", "Dict", "Tuple", "Callable", "Literal")


class Reach(ReachCalls):
    """The files, functions and lines that a launch may run."""

    def __init__(self, command: LaunchCommand, script: str, reader: ScriptReader | None) -> None:
        super().__init__(command, script, reader)
        path = command.script_file(script)
        main = self.modules.load(os.path.normpath(path))
        if main is None:
            self.is_whole = self.is_followed = False
            return
        self._run(main, main.tree.body)
        try:
            self._follow()
        except RecursionError:  # expressions or branches in one another beyond all measure
            self.is_whole = False
            self._use_everything()
            self._follow()

    def _follow(self) -> None:
        while True:
            if self.queue:
                self._look(self.queue.popleft())
            elif self.imported_files:
                path = self.imported_files.popleft()
                if len(self.files) >= MOST_IMPORTED:
                    self.is_whole = self.is_whole and path in self.lines
                    continue
                self._enter(self.modules.load(path))
            elif not self._is_more():
                return

    def _is_more(self) -> bool:
        """Look again at blocks with branches that were not taken, for what is known now; tell whether that led on."""
        self.values.start_again()
        before = len(self.seen)
        for block in list(self.pruned.values()):
            self._look(block)
        self._mapped(self.lookups.again())
        return len(self.seen) > before or bool(self.queue or self.imported_files)

    def _look(self, block: Block) -> None:
        module, scope = block.module, block.scope
        if self.reaches_everything:
            return
        new: list[ast.AST] = []
        for node, taken in reachable(block.body, scope, self.values):
            if taken is None:
                self.pruned[id(scope)] = block
                if isinstance(node, ast.expr):
                    self.branches[id(node)] = (module, node)
            elif id(node) not in self.seen:
                self.seen.add(id(node))
                new.append(node)
        for name, count in changed_attributes(new).items():
            changed = dict(self.values.changed_attributes)
            self.values.changed_attributes = {**changed, name: changed.get(name, 0) + count}
        for node in new:
            self._look_at(node, module, scope)
            if self.reaches_everything:
                return

    def _look_at(self, node: ast.AST, module: Module, scope: Scope) -> None:
        if id(node) in self.handled:
            return
        if isinstance(node, (ast.stmt, ast.withitem)):
            for attribute, value in attributes_set(node):
                self.classes.note_set(attribute, value, scope)
        if isinstance(node, ast.stmt):
            self._keep(node, module)
        elif isinstance(node, ast.expr):
            self.lines[module.path].update(span(node))
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            self._import(node, module)
        elif isinstance(node, ast.Name):
            self._name(node, module)
            if id(scope) in self.classes.bodies:
                self._use_methods(node.id)  # a method by its name in the class
                self.handed_on.add(node.id)
        elif isinstance(node, ast.Attribute):
            self.attributes.setdefault(node.attr, []).append((module, node, scope))
            self._attribute(node, module)
        elif isinstance(node, ast.Call):
            self._call(node, module, scope)
        elif isinstance(node, ast.Subscript):
            self._subscript(node, module, scope)
        elif isinstance(node, ast.Compare):
            self._compare(node, module)
        elif isinstance(node, ast.Lambda):
            self._all_names(node.body, module)
        elif isinstance(node, ast.Assign):
            if id(scope) not in self.classes.bodies:  # such a table is asked for by its object
                self.handled |= self.lookups.note(node, module)
            if scope is module.scope and _is_type(node.value):
                self.handled |= {id(each) for each in walk(node.value)}
                self.idle.append((module, node.value))
        elif isinstance(node, ast.AnnAssign) and id(scope) not in self.classes.bodies:
            self.handled |= {id(each) for each in walk(node.annotation)}
        elif isinstance(node, Definition):
            self._define(node, module, scope)

    def _keep(self, node: ast.stmt, module: Module) -> None:
        kept = self.lines[module.path]
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            self.handled.add(id(node.value))  # a docstring
        elif isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            return
        elif isinstance(inner := getattr(node, "body", None), list) and inner:
            kept.update(range(node.lineno, max(inner[0].lineno, node.lineno + 1)))
        else:
            kept.update(span(node))

    def _define(self, node: Definition, module: Module, scope: Scope) -> None:
        """Note a function or class whose definition runs; one inside a function is used with it."""
        outer: list[ast.expr] = list(node.decorator_list)
        if isinstance(node, FUNCTIONS):
            outer += [*node.args.defaults, *(d for d in node.args.kw_defaults if d is not None)]
        for each in outer:
            self._all_names(each, module)
        is_plain = all(PLAIN_DECORATORS.search(unparse(d)) for d in node.decorator_list)
        at_top = scope is module.scope
        is_registered = isinstance(node, ast.ClassDef) and self.classes.registers(node, module)
        if not is_plain or not at_top or is_registered:
            self._use_definition(node, module, scope)
        if not is_plain:
            self.handed_on.add(id(node))


def _is_type(node: ast.expr) -> bool:
    """Tell whether an expression is a type of typing's: `Union[A, B]`."""
    return isinstance(node, ast.Subscript) and last_name(node.value) in TYPES
