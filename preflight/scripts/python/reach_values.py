"""What conditions hold in the functions that a launch reaches: parameters from the calls that reach them, attributes from what sets them.

The evaluator of the script's own file, over every file that runs. What is known here can only be lost as more calls are
found, so what was left out is looked at again (preflight/scripts/reach/reach.py).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any

from preflight.launch import LaunchCommand
from preflight.scripts.python.bindings import Site, agreed, handed, told_by
from preflight.scripts.python.nodes import walk
from preflight.scripts.python.operators import is_same
from preflight.scripts.python.scope import UNKNOWN, Known, Parsed, Scope
from preflight.scripts.python.values import Evaluator

Function = ast.FunctionDef | ast.AsyncFunctionDef
SitesOf = Callable[[Function, Scope], "list[Site] | None"]
"""The calls of a function, None where others may call it."""
MOST_CALLERS = 3
"""Functions through which a value is handed on, where its calls differ."""
MOST_STEPS = 1_500
"""Expressions looked at for one condition: through several calls to the command line takes some hundreds."""
MOST_STEPS_IN_ALL = 60_000
MOST_SITES = 40
"""Calls of one function: one that is called more often agrees on nothing."""
CHECKS_TYPES = "TYPE_CHECKING"


class Parameters(dict[str, Known]):
    """The parameters of one function, worked out when they are asked for."""

    def __init__(self, values: ReachValues, function: Function, given: dict[str, Known]) -> None:
        super().__init__(given)
        self.values_of, self.function, self.given = values, function, dict(given)
        self.scope: Scope | None = None
        self.generation = -1

    def __contains__(self, name: object) -> bool:
        values = self.values_of
        if self.generation != values.generation and self.scope is not None:
            self.generation = values.generation
            self.clear()
            self.update(values.bound(self.function, self.scope))
            self.update(self.given)
        return super().__contains__(name)


class ReachValues(Evaluator):
    """Evaluates expressions of every file that runs."""

    def __init__(
        self,
        command: LaunchCommand,
        names_of: Callable[[str, str], Known | Parsed | None],
        parsed_of: Callable[[ast.Call, Scope], object],
        sites_of: SitesOf,
    ) -> None:
        super().__init__(command, names_of, parsed_of)
        self.sites_of = sites_of
        self.most_steps = MOST_STEPS
        self.num_steps_in_all = 0
        self.generation = 0
        self.class_of: dict[int, int] = {}
        """Id of a method's names -> that of its class."""
        self.kin: dict[int, set[int]] = {}
        """Id of a class -> those of the classes that it stands on, that stand on it, and so on; its own too."""
        self.of_library: set[int] = set()
        """Classes that stand on a library's, which may set anything on its objects."""
        self.set_on: dict[tuple[int, str], list[tuple[ast.expr | None, Scope]]] = {}
        """A class and an attribute -> what it is set to: by the class, or by its methods on `self`."""
        self.is_open = False
        """Whether attributes of parsed arguments are set under names that are made when the script runs."""

    def evaluate(self, node: ast.expr, scope: Scope, depth: int = 0) -> Known:
        """Return the value of an expression; each that is asked for may take so many steps, and all of them so many."""
        if self.nesting == 0:
            self.num_steps_in_all += self.num_steps
            self.num_steps = MOST_STEPS if self.num_steps_in_all > MOST_STEPS_IN_ALL else 0
        return super().evaluate(node, scope, depth)

    def start_again(self) -> None:
        """Forget what was worked out: more calls and assignments are known now."""
        self.generation += 1
        self.forget()

    def bound(self, function: Function, scope: Scope) -> dict[str, Known]:
        """Return the parameters on which all calls of a function agree."""
        sites = self.sites_of(function, scope)
        if not sites or len(sites) > MOST_SITES or isinstance(function, ast.AsyncFunctionDef):
            return {}
        told = agreed([told_by(function, scope, site, self) for site in sites])
        return {name: known for name, known in told.items() if known.value is not UNKNOWN}

    def possible(self, node: ast.expr, scope: Scope, depth: int = 0) -> list[object]:
        """Return what an expression may be: what each call of its function hands it; UNKNOWN among it where one is not known."""
        value = self.value(node, scope)
        parameters = scope.parameters
        if value is not UNKNOWN or not isinstance(parameters, Parameters) or depth > MOST_CALLERS:
            return [value]
        if not isinstance(node, ast.Name) or node.id not in scope.arguments:
            return [value]
        sites = self.sites_of(parameters.function, scope)
        if not sites or scope.assigned.get(node.id) or scope.changes(node.id):
            return [value]
        given = [handed(parameters.function, scope, site, node.id) for site in sites]
        return [
            each
            for told in given
            for each in ([UNKNOWN] if told is None else self.possible(*told, depth + 1))
        ]

    def name(self, name: str, scope: Scope, depth: int = 0, at: Any = None) -> object:
        """Return what a name holds; what only a type checker sees does not run."""
        return False if name == CHECKS_TYPES else super().name(name, scope, depth, at)

    def _attribute(self, node: ast.Attribute, scope: Scope, depth: int) -> object:
        if node.attr == CHECKS_TYPES:
            return False
        if isinstance(node.value, ast.Name) and node.value.id == "self":
            return self._of_self(node.attr, scope, depth)
        known = super()._attribute(node, scope, depth)
        is_set = self.is_open and isinstance(self.value(node.value, scope, depth), Parsed)
        return UNKNOWN if is_set else known

    def class_around(self, scope: Scope) -> int | None:
        """Return the id of the class that a block is in; None where it is in none."""
        method = scope.around(lambda each: id(each) in self.class_of)
        return None if method is None else self.class_of[id(method)]

    def _of_self(self, attribute: str, scope: Scope, depth: int) -> object:
        """Return what an attribute of an object holds, where all that sets it agrees."""
        around = self.class_around(scope)
        kin = set() if around is None else self.kin[around]
        if not kin or kin & self.of_library or attribute in self.changed_attributes:
            return UNKNOWN
        written = [each for cls in sorted(kin) for each in self.set_on.get((cls, attribute), ())]

        def work_out() -> object:
            known = []
            for node, own in written:
                known.append(None if node is None else self.evaluate(node, own, depth + 1))
                first = known[0]
                last = known[-1]
                if first is None or last is None or not is_same(last.value, first.value):
                    return UNKNOWN
            return known[0] if known else UNKNOWN

        return self.once((min(kin), f".{attribute}", None), depth, work_out)


def attributes_set(node: ast.AST) -> Iterator[tuple[ast.Attribute, ast.expr | None]]:
    """Yield the attributes that a statement sets, each with what it is set to; None where that is not one expression."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Attribute):
                yield target, node.value
            else:
                yield from _within(target)
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Attribute):
        if node.value is not None:
            yield node.target, node.value
    elif isinstance(node, ast.AugAssign):
        yield from _within(node.target)
    elif isinstance(node, ast.Delete):
        for target in node.targets:
            yield from _within(target)
    elif isinstance(node, (ast.For, ast.AsyncFor)):
        yield from _within(node.target)
    elif isinstance(node, ast.withitem) and node.optional_vars is not None:
        yield from _within(node.optional_vars)


def _within(target: ast.expr) -> Iterator[tuple[ast.Attribute, None]]:
    for each in walk(target):
        if isinstance(each, ast.Attribute) and isinstance(each.ctx, (ast.Store, ast.Del)):
            yield each, None
