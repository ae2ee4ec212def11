"""What a function of a repository gives that makes objects and sets their attributes: read by its statements, never run.

`config = base(); config.training.steps = 10; return config` gives what `base` makes, changed. Calls of functions that
can be read are followed; any other call is an object of its own, with the arguments that it is given. What a statement
may change in a way that is not followed is UNKNOWN from there on.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import field

from preflight.launch import LaunchCommand
from preflight.scripts.python.nodes import targets_of, unparse, walk
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN, Known, Parsed, Scope
from preflight.setting import Place
from preflight.values import dataclass

MAX_CALLS = 12
"""Functions that call each other; no registry of configs has more than three."""
MAX_FOLLOWED = 200
"""Calls in all that one config is made of: each may call several."""
NOTHING = object()
"""What a block gives that returns nothing."""


@dataclass(frozen=True)
class Made:
    """An object that a call makes: what is called, as it is written there, with its arguments and attributes."""

    name: str
    """Dotted, as the file has it; empty for an attribute of an object that nobody set before one of its own is."""
    path: str
    arguments: tuple[object, ...] = ()
    attributes: dict[str, object] = field(default_factory=dict)
    """Keyword arguments, and what was set later; UNKNOWN where that cannot be told."""
    has_more: bool = False
    """Whether a `**` adds arguments that are not known."""


def is_plain(value: object) -> bool:
    """Tell whether a value is known, and no object that a call makes."""
    return value is not UNKNOWN and not isinstance(value, Made)


class FunctionReader:
    """Reads functions of one launch's repository; every file is parsed once."""

    def __init__(self, command: LaunchCommand, not_followed: Sequence[str]) -> None:
        self.command = command
        self.not_followed = frozenset(not_followed)
        """Functions whose call stands for what they make."""
        self.num_followed = 0
        self._readers: dict[str, ScriptReader | None] = {}

    def reader(self, path: str) -> ScriptReader | None:
        """Return a file, loaded; None where it is no Python that can be read."""
        if path not in self._readers:
            try:
                reader = ScriptReader(self.command, path, self.command.read_text(path))
                reader.read(lambda names: None)
            except (OSError, UnicodeDecodeError, SyntaxError, ValueError, RecursionError):
                self._readers[path] = None
            else:
                self._readers[path] = reader
        return self._readers[path]

    def result(
        self, path: str, name: str, given: Mapping[str, object] | None = None, depth: int = 0
    ) -> object:
        """Return what a function gives for some arguments; UNKNOWN where it cannot be followed."""
        found = self.function(path, name)
        self.num_followed += 1
        if found is None or depth > MAX_CALLS or self.num_followed > MAX_FOLLOWED:
            return UNKNOWN
        function, scope = found
        names = {**self._defaults(function, scope), **(given or {})}
        try:
            gives = _Block(self, scope, names, depth).run(function.body)
        except RecursionError:  # an expression that is nested beyond all measure
            return UNKNOWN
        return None if gives is NOTHING else gives

    def function(self, path: str, name: str) -> tuple[ast.FunctionDef, Scope] | None:
        """Return the one function of a name that a file defines, and its names; None where it is wrapped in another."""
        reader = self.reader(path)
        held = [] if reader is None else reader.functions.get(name, [])
        here = [each for each in held if each[1].path == path]
        return here[0] if len(here) == 1 and not here[0][0].decorator_list else None

    def _defaults(self, function: ast.FunctionDef, scope: Scope) -> dict[str, object]:
        arguments = function.args
        places = [*arguments.posonlyargs, *arguments.args]
        given = zip(reversed(places), reversed(arguments.defaults), strict=False)
        named = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        outer = scope.outer or scope
        names: dict[str, object] = {each.arg: UNKNOWN for each in places + arguments.kwonlyargs}
        for argument, node in (*given, *named):
            if node is not None:
                names[argument.arg] = self.evaluated(node, outer)
        return names

    def evaluated(
        self, node: ast.expr, scope: Scope, given: Mapping[str, Known] | None = None
    ) -> object:
        """Return what the evaluator of a file makes of an expression without objects, for what a call gives its block."""
        reader = self.reader(scope.path)
        if reader is None:
            return UNKNOWN
        with reader.evaluator.told(scope, given or {}):
            return reader.evaluator.value(node, scope)

    def meant(self, node: ast.expr, path: str) -> tuple[str, str] | None:
        """Return the file and the name of the function that a call's name means; None for any other."""
        reader = self.reader(path)
        if not isinstance(node, ast.Name) or reader is None or node.id in self.not_followed:
            return None
        file, name = reader.imports.get(path, {}).get(node.id, (path, node.id))
        return (file, name) if self.function(file, name) is not None else None

    def imported(self, path: str, name: str) -> str:
        """Return the file of the repository that gives a name to a file; empty where none does."""
        reader = self.reader(path)
        return "" if reader is None else reader.imports.get(path, {}).get(name, ("", ""))[0]


class _Block:
    """The statements of one function, for one of its calls."""

    def __init__(
        self, reader: FunctionReader, scope: Scope, names: dict[str, object], depth: int
    ) -> None:
        self.reader, self.scope, self.names, self.depth = reader, scope, names, depth
        place = Place("script", scope.path, "")
        self.given = {
            name: Known(value, place)
            for name, value in names.items()
            if value is None or isinstance(value, (str, int, float, bool))
        }

    def run(self, body: Sequence[ast.stmt]) -> object:
        """Return what the statements give; NOTHING where none returns."""
        for node in body:
            if isinstance(node, ast.Return):
                return None if node.value is None else self.value(node.value)
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
                value = self.value(node.value)
                for target in targets_of(node):
                    self._assign(target, value)
            elif isinstance(node, ast.Expr):
                self._called(node.value)
            elif isinstance(node, ast.If) and self.value(node.test) is not UNKNOWN:
                gives = self.run(node.body if self.value(node.test) else node.orelse)
                if gives is not NOTHING:
                    return gives
            elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                self.names[node.name] = UNKNOWN
            elif not isinstance(node, (ast.Assert, ast.Pass, ast.Import, ast.ImportFrom)):
                self._forget(node)
                if any(isinstance(inner, ast.Return) for inner in walk(node)):
                    return UNKNOWN
        return NOTHING

    def value(self, node: ast.expr) -> object:
        """Return what an expression is: an object, a list of them, or a plain value."""
        if isinstance(node, ast.Name) and node.id in self.names:
            return self.names[node.id]
        if isinstance(node, ast.Attribute):
            holder = self.value(node.value)
            if isinstance(holder, Made):
                return holder.attributes.get(node.attr, UNKNOWN)
        if isinstance(node, (ast.List, ast.Tuple)):
            return [self.value(item) for item in node.elts]
        if isinstance(node, ast.Call):
            return self._made(node)
        return self.reader.evaluated(node, self.scope, self.given)

    def _made(self, node: ast.Call) -> object:
        if unparse(node.func) not in self.reader.not_followed:
            plain = self.reader.evaluated(node, self.scope, self.given)
            if plain is not UNKNOWN and not isinstance(plain, Parsed):
                return plain
        arguments = tuple(self.value(item) for item in node.args)
        named = {each.arg: self.value(each.value) for each in node.keywords if each.arg is not None}
        has_more = len(named) < len(node.keywords)
        meant = self.reader.meant(node.func, self.scope.path)
        if meant is None:
            return Made(unparse(node.func), self.scope.path, arguments, named, has_more)
        function = self.reader.function(*meant)
        taken = None if function is None else function[0].args
        places = [] if taken is None else [each.arg for each in (*taken.posonlyargs, *taken.args)]
        if has_more or len(arguments) > len(places):
            return UNKNOWN
        given = {**dict(zip(places, arguments, strict=False)), **named}
        return self.reader.result(*meant, given, self.depth + 1)

    def _called(self, node: ast.expr) -> None:
        """Follow a call for what it does to the objects that it is given."""
        if isinstance(node, ast.Constant):
            return
        is_followed = isinstance(node, ast.Call) and self.reader.meant(node.func, self.scope.path)
        if not is_followed or self.value(node) is UNKNOWN:
            self._forget(node)

    def _assign(self, target: ast.expr, value: object) -> None:
        if isinstance(target, ast.Name):
            self.names[target.id] = value
            return
        holder = self._holder(target.value) if isinstance(target, ast.Attribute) else None
        if isinstance(target, ast.Attribute) and holder is not None:
            holder.attributes[target.attr] = value
        else:
            self._forget(target)

    def _holder(self, node: ast.expr) -> Made | None:
        """Return the object that an attribute is set on; one that nobody set before is made."""
        if isinstance(node, ast.Name):
            held = self.names.get(node.id)
            return held if isinstance(held, Made) else None
        above = self._holder(node.value) if isinstance(node, ast.Attribute) else None
        if above is None or not isinstance(node, ast.Attribute):
            return None
        held = above.attributes.setdefault(node.attr, Made("", self.scope.path))
        return held if isinstance(held, Made) else None

    def _forget(self, node: ast.AST) -> None:
        """Take what a statement may change for unknown: attributes that it names, objects that it hands on, names."""
        handed_on = {id(each): each for each in walk(node) if isinstance(each, ast.Name)}
        for each in walk(node):
            if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name):
                held = self.names.get(each.value.id)
                handed_on.pop(id(each.value), None)
                if isinstance(held, Made):
                    held.attributes[each.attr] = UNKNOWN
        for name in handed_on.values():
            if isinstance(name.ctx, ast.Store) or isinstance(self.names.get(name.id), Made):
                self.names[name.id] = UNKNOWN
