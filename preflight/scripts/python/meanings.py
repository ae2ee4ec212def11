"""What the names and calls of a training script mean in a launch: parsed arguments, objects of settings, what functions return."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from preflight.launch import LaunchCommand
from preflight.scripts.python.argument_parsers import argparse_names
from preflight.scripts.python.assignments import walk_block
from preflight.scripts.python.attribute_changes import (
    asked_before_change,
    changed_attributes,
    changed_paths,
    copied_attributes,
    filled_attributes,
    updates_of,
)
from preflight.scripts.python.bindings import told_by
from preflight.scripts.python.class_meanings import PARSES_DATACLASSES, ClassMeanings
from preflight.scripts.python.dataclass_fields import is_dataclass
from preflight.scripts.python.flow import ANYWHERE, Way, returns, ways_of
from preflight.scripts.python.methods import Methods
from preflight.scripts.python.nodes import is_callback, last_name, parts_of, unparse
from preflight.scripts.python.reached import in_file
from preflight.scripts.python.scope import FlagOf, Known, Parsed, Scope, starred
from preflight.scripts.python.settings_objects import class_of_command, loaded
from preflight.scripts.python.values import Evaluator

if TYPE_CHECKING:
    from preflight.scripts.python.set_back import SetBack

_Returns = tuple[list[tuple[ast.expr, Way]], Scope]


class ScriptMeanings(ClassMeanings):
    """A script's files with an evaluator that knows what their calls give back."""

    def __init__(self, command: LaunchCommand, path: str, text: str) -> None:
        super().__init__(command, path, text)
        self.flag_of: FlagOf = lambda _: None
        self._returns: dict[str, list[tuple[ast.expr, Way]]] = {}
        """Function -> what it returns, and under which conditions: a name may be called thousands of times."""
        self._returning: set[str] = set()
        self.evaluator = Evaluator(command, self.imported, self.parsed)
        self.evaluator.blocks = self.blocks
        self.evaluator.set_on_objects = self._set_on_objects
        self.methods = Methods(
            self.classes, self.class_around, self.evaluator.only_node, self._set_on_objects
        )
        for name, method, scope in self.methods_of_classes():
            held = self.class_of(name, scope.path)
            if held is not None:
                self.methods.add(held[0], method, scope)
        self.set_back: Mapping[str, list[SetBack]] = {}
        """Attributes of other objects that callbacks set for as long as they run."""
        if any(isinstance(node, ast.ClassDef) and is_callback(node) for node in self.nodes):
            from preflight.scripts.python.set_back import set_back  # few scripts have any

            self.set_back = set_back(self.trees)
        self.passing = {id(s.statement) for held in self.set_back.values() for s in held}
        self._changed = changed_attributes(n for n in self.nodes if id(n) not in self.passing)
        """Attributes that any line sets for longer, and how often."""
        self.evaluator.changed_attributes = self._changed
        self.evaluator.asked_before_change = asked_before_change(self.nodes, self._changed)
        self.evaluator.filled_attributes = filled_attributes(self.nodes, self._changed)
        self.evaluator.copied_attributes = copied_attributes(
            (walk_block(body), scope) for body, scope in self.blocks
        )
        self.evaluator.changed_paths = changed_paths(self.nodes)
        functions = (each for same in self.functions.values() for each in same)
        # keywords of a command line are seen where `filled_by_command` looks
        caught = {id(scope): f.args.kwarg.arg for f, scope in functions if f.args.kwarg}
        asked = {id(each.scope) for each in self.everywhere if each.name in ("setattr", "update")}
        updating = (each for each in self.blocks if id(each[1]) in asked)
        self.evaluator.updates = list(updates_of(updating, caught))

    def arguments(self) -> Iterator[Mapping[str, Known]]:
        """Yield the parsed arguments that the script asked for: of its argparse parser, and of each of its dataclasses."""
        if self._namespace is not None:
            yield self.evaluator.names_now(self._namespace)
        yield from map(self.evaluator.names_now, self._parsed.values())

    def called(self, func: ast.expr, scope: Scope) -> str:
        """Return the function or method of the script's own that a call means, as a key of `called_so`; empty where it is none."""
        imports = self.imports.get(scope.path, {})
        if isinstance(func, ast.Name):
            if len(self.functions.get(imports.get(func.id, ("", func.id))[1], ())) > 1:
                file, name = imports.get(func.id, (scope.path, func.id))
                if in_file(file, name) in self.of_file:
                    return in_file(file, name)
            return func.id if func.id in self.functions else self.renamed.get(func.id, "")
        root = parts_of(func)[0]
        held = imports.get(root.id) if isinstance(root, ast.Name) else None
        if held is None or held[1] or not isinstance(func, ast.Attribute):
            return self.methods.called(func, scope)
        return imports.get(unparse(func), ("", func.attr))[1]

    def imported(self, path: str, name: str) -> Known | Parsed | None:
        local, _, attribute = name.partition(".")
        given = self.imports.get(path, {})
        found = given.get(local) or starred(given, self.modules, name)
        if found is None:
            return self._values(name, path)
        module = self.modules.get(found[0])
        wanted = attribute or found[1]
        if module is None or not wanted:
            return None
        held = self._values(wanted, found[0])
        if held is not None:
            return held
        value = self.evaluator.name(wanted, module)
        return value if isinstance(value, Known) else None

    def _set_on_objects(self, attribute: str, scope: Scope) -> tuple[ast.expr, Scope] | None:
        """Return what alone sets an attribute of `self` in the class that a block is of, and the names there."""
        method = scope.around(self.class_around)
        held = None if method is None else self.class_of(self.class_around(method), scope.path)
        found = None if held is None else self.classes.set_once(held[0], attribute)
        if held is not None and found is None and is_dataclass(held[0]):
            return self.given_to_field(held[0], attribute)
        if held is None or found is None:
            return None
        value, is_by_constructor = found
        if not is_by_constructor:
            return value, held[1]
        made = self.classes.constructor(held[0])
        own = (names for node, names in self.functions["__init__"] if made and node is made[1])
        return next(((value, names) for names in own), None)

    def parsed(self, node: ast.Call, scope: Scope) -> object:
        name = last_name(node.func)
        if name in ("parse_args", "parse_known_args"):
            if self._namespace is None:
                self._namespace = Parsed({})  # a default that parses again ends here
                adding, changing = (
                    [(found.node, found.scope) for found in self.everywhere if found.name == each]
                    for each in ("add_argument", "set_defaults")
                )
                if any(each.arg is None for call, _ in changing for each in call.keywords):
                    # The file of `set_defaults(**settings)` is named by another flag.
                    self._namespace = argparse_names(adding, self.evaluator, self.flag_of, ())
                self._namespace = argparse_names(adding, self.evaluator, self.flag_of, changing)
                self.evaluator.forget()
            if self._namespace.names:
                parsed = self._namespace
                return (parsed, []) if name == "parse_known_args" else parsed
        is_own_parse = name == "parse" and not node.args and self._has_parser_of_its_own
        if name in PARSES_DATACLASSES or is_own_parse:
            return self._dataclasses(scope)
        held = loaded(node, scope, self.evaluator)
        if held is not None:
            return held
        of_command = class_of_command(node)
        if of_command is not None:
            return self._dataclass(of_command, scope.path)
        if isinstance(node.func, ast.Name) and self.class_of(name, scope.path) is not None:
            return self._made(node, scope)
        of_class = self.by_its_class(node, scope)
        if of_class is not None:
            return self._made(of_class, scope)
        validated = _validated(node)
        if validated is not None and self.class_of(last_name(validated.func), scope.path):
            return self._made(validated, scope)
        return self._returned(node, scope)

    def meant_by(self, call: ast.Call, scope: Scope) -> Sequence[tuple[ast.FunctionDef, Scope]]:
        """Return the functions of the script's own, or the method, that a call means."""
        return self.called_so(self.called(call.func, scope))

    def called_so(self, key: str) -> Sequence[tuple[ast.FunctionDef, Scope]]:
        """Return the functions, or the method, of what `called` gives."""
        held = self.methods.functions.get(key) or self.of_file.get(key) or self.functions.get(key)
        return self.as_called(held or ())

    def as_called(
        self, held: Sequence[tuple[ast.FunctionDef, Scope]]
    ) -> Sequence[tuple[ast.FunctionDef, Scope]]:
        """Return those of some functions that run with what their callers give them, whatever stands around them."""
        if not any(function.decorator_list for function, _ in held):
            return held
        from preflight.scripts.python.own_decorators import is_wrapped  # few have decorators

        return [each for each in held if not is_wrapped(each[0], self.functions)]

    def _returned(self, node: ast.Call, scope: Scope) -> object:
        """Return what a function of the script's own gives back to this call, where every `return` that may run agrees."""
        with self._told(node, scope) as called:
            return None if called is None else self.evaluator.agreed(*called)

    @contextmanager
    def made_by(self, node: ast.expr, scope: Scope) -> Iterator[list[tuple[ast.expr, Scope]]]:
        """Give what may make what an expression is, each with its block: what a name holds, or what a function of the script's
        own may return to this very call, whose parameters are its values while the context lasts."""
        only = self.evaluator.only_node(node, scope)
        if only is None or not isinstance(only[0], ast.Call):
            yield [] if only is None else [only]
            return
        with self._told(only[0], only[1]) as called:
            if called is None:
                yield [only]
            else:
                yield [(each, called[1]) for each in self.evaluator.reached(*called)]

    @contextmanager
    def _told(self, node: ast.Call, scope: Scope) -> Iterator[_Returns | None]:
        """Give what a function of the script's own returns, and its block with the values of a call; None of any other call."""
        name = self.called(node.func, scope)
        held = self.called_so(name)
        if len(held) != 1 or name in self._returning:
            yield None
            return
        function, own = held[0]
        if name not in self._returns:
            self._returns[name] = _ways_out(function)
        told = told_by(function, own, (self.methods.bound(node, scope), scope), self.evaluator)
        self._returning.add(name)
        try:
            with self.evaluator.told(own, told):
                yield self._returns[name], own
        finally:
            self._returning.discard(name)


def _validated(node: ast.Call) -> ast.Call | None:
    """Return `Config(**values)` for pydantic's `Config.model_validate(values)`; None for any other call."""
    func = node.func
    if not isinstance(func, ast.Attribute) or func.attr not in ("model_validate", "parse_obj"):
        return None
    if not isinstance(func.value, ast.Name) or len(node.args) != 1 or node.keywords:
        return None
    return ast.copy_location(ast.Call(func.value, [], [ast.keyword(None, node.args[0])]), node)


def _ways_out(function: ast.FunctionDef) -> list[tuple[ast.expr, Way]]:
    """Return what a function gives back, by each of its returns and at its end; nothing of one that gives nothing back."""
    nothing = ast.copy_location(ast.Constant(None), function.body[-1])
    body = list(function.body)
    if not returns(body):
        body.append(ast.copy_location(ast.Return(nothing), nothing))
    ways = ways_of(body)
    found = [each for each in walk_block(body) if isinstance(each, ast.Return)]
    if all(each.value in (None, nothing) for each in found):
        return []
    return [(each.value or nothing, ways.get(id(each), ANYWHERE)) for each in found]
