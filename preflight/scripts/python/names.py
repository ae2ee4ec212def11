"""What a name of a block holds at a place of it: worked out once for a command line, or for one call of a function."""

from __future__ import annotations

import ast
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from preflight.scripts.python.flow import Guard, Position, Way, live
from preflight.scripts.python.operators import is_same
from preflight.scripts.python.scope import UNKNOWN, Known, Scope, bare

MAX_DEPTH = 24
"""Names that refer to names; also what ends a cycle."""
MANY_STEPS = 20_000
"""Expressions looked at in one script after which what was cut short is kept as not known too: few have conditions and
names that depend on each other in so many ways."""
MAX_ASSIGNMENTS = 50
"""Of one name; what is set more often is a counter of some kind."""


class Names(ABC):
    """The names of a script's blocks, with what evaluates the expressions that they are given."""

    def __init__(self) -> None:
        self._tests: dict[int, bool | None] = {}
        """Id of a condition -> whether it holds."""
        self._names: dict[tuple[int, str, Position | None], object] = {}
        """Block, name and place in it -> what it holds there."""
        self._working: set[tuple[int, str, Position | None]] = set()
        """Those that are being worked out: one that depends on itself is not known."""
        self._asked: set[int] = set()
        """Conditions that are being evaluated: one that depends on itself is not known."""
        self.inner_scopes: list[Scope] = []
        """The blocks of comprehensions, one for each round: kept, since what a name holds is kept by the id of its block."""
        self.num_steps = 0
        """Expressions that were looked at."""
        self.num_cuts = 0
        """Times that something was asked for which depends on one of those or on `before_change`, or lies too deep."""
        self.before_change = ""
        """The attribute whose value is asked for as it was before what sets it."""
        self.asked_before_change: Mapping[int, str] = {}
        """Id of a condition -> the one that is asked for so there."""

        self.for_a_time: Mapping[str, Known] = {}
        """What attributes of objects hold in the time that is asked about, and at no other."""

    @abstractmethod
    def evaluate(self, node: ast.expr, scope: Scope, depth: int = 0) -> Known:
        """Return the value of an expression; its `value` is UNKNOWN where it cannot be known."""

    def value(self, node: ast.expr, scope: Scope, depth: int = 0) -> object:
        """Return only the value of an expression."""
        return self.evaluate(node, scope, depth).value

    def held(self, name: str, scope: Scope, depth: int, at: Position | None) -> object:
        """Return what a name of this very block holds."""
        key = (id(scope), name, at)
        if key in self._working:
            return UNKNOWN  # `total = total + more`, in a loop
        self._working.add(key)
        try:
            return self.once(key, depth, lambda: self._worked_out(name, scope, depth, at))
        finally:
            self._working.discard(key)

    def once(
        self, key: tuple[int, str, Position | None], depth: int, work_out: Callable[[], object]
    ) -> object:
        """Return what is worked out for a key; asked for again, it is not worked out again."""
        if key in self._names:
            return self._names[key]
        before = self.num_cuts
        held = work_out()
        is_deep = depth > MAX_DEPTH // 2 and self.num_steps < MANY_STEPS
        if not is_deep and not self._is_cut_short(before):
            self._names[key] = held
        return held

    def _worked_out(self, name: str, scope: Scope, depth: int, at: Position | None) -> object:
        """Return what a name holds, where every assignment that may be the last one agrees."""
        written = scope.assigned.get(name, ())
        if name in scope.unclear or len(written) > MAX_ASSIGNMENTS:
            return UNKNOWN
        if name in scope.grown and self._live(scope.grown[name], scope, depth, at)[0]:
            return UNKNOWN
        nodes, is_sure = self._live(written, scope, depth, at)
        known = [self.evaluate(node, scope, depth + 1) for node in nodes]
        if name in scope.parameters and not (is_sure and at is not None):
            known.append(scope.parameters[name])
        elif name in scope.arguments and not (is_sure and at is not None):
            return UNKNOWN
        if not known or not all(is_same(item.value, known[0].value) for item in known):
            return UNKNOWN
        found = known[0]
        if name in scope.changed:
            found = self.with_changes(found, name, scope, depth, at)
        if name in scope.changed_elsewhere and isinstance(found.value, dict):
            value = dict(found.value)
            for path in scope.changed_elsewhere[name]:
                held, key = _inner(value, path)
                held[key] = UNKNOWN
            found = Known(value, found.place)
        return found

    @contextmanager
    def told(self, scope: Scope, parameters: Mapping[str, Known]) -> Iterator[None]:
        """Evaluate a function for one of its calls: with what that call gives it."""
        before = dict(scope.parameters)
        tests, names, working = self._tests, self._names, self._working
        scope.parameters.clear()
        scope.parameters.update(parameters)
        self._tests, self._names, self._working = {}, {}, set()
        try:
            yield
        finally:
            scope.parameters.clear()
            scope.parameters.update(before)
            self._tests, self._names, self._working = tests, names, working

    @contextmanager
    def meanwhile(self, held: Mapping[str, Known]) -> Iterator[None]:
        """Evaluate as of a time in which attributes of objects hold something else."""
        before, self.for_a_time = self.for_a_time, held
        try:
            with self.told(Scope(""), {}):
                yield
        finally:
            self.for_a_time = before

    def agreed(self, written: Iterable[tuple[ast.expr, Way]], scope: Scope) -> Known | None:
        """Return what some expressions of a block say alike, those that may be reached; None where they do not."""
        known = [self.evaluate(node, scope) for node in self.reached(written, scope)]
        if not known or not all(is_same(each.value, known[0].value) for each in known):
            return None
        return None if known[0].value is UNKNOWN else known[0]

    def reached(self, written: Iterable[tuple[ast.expr, Way]], scope: Scope) -> list[ast.expr]:
        """Return those of some expressions of a block that may be reached."""
        return live(written, None, lambda guard: self._holds(guard, scope, 0))[0]

    def may_hold(self, name: str, scope: Scope, at: Position | None = None) -> list[ast.expr]:
        """Return what a block assigns to a name, before a place of it, without branches that are not taken."""
        return self._live(scope.assigned.get(name, ()), scope, 0, at)[0]

    def may_hold_under(
        self, name: str, path: tuple[str, ...], scope: Scope, at: Position | None = None
    ) -> tuple[list[ast.expr], bool]:
        """Return what a block sets under a key of the dict that a name holds, before a place of it, and whether one surely is."""
        return self._live(scope.changed.get(name, {}).get(path, ()), scope, 0, at)

    def may_be(self, node: ast.expr, scope: Scope) -> list[tuple[ast.expr, Scope]]:
        """Return what a name may stand for at its place, each with its block, and any other expression as it is; nothing for
        a name that no block sets."""
        if not isinstance(node, ast.Name):
            return [(node, scope)]
        holder = scope.holder(node.id)
        if holder is None:
            return []
        at = position(node) if holder is scope else None
        return [(each, holder) for each in self.may_hold(node.id, holder, at)]

    def is_set_before(self, node: ast.Name, scope: Scope) -> bool:
        """Tell whether a statement of the block surely sets a name before its place."""
        return self._live(scope.assigned.get(node.id, ()), scope, 0, position(node))[1]

    def surely_runs(self, node: ast.expr, scope: Scope) -> bool:
        """Tell whether every condition around what a block assigns, or sets as a key, is known to hold."""
        way = scope.ways.get(id(node))
        return way is None or all(self._holds(each, scope, 0) is True for each in way.guards)

    def branches(self, node: ast.IfExp, scope: Scope) -> list[ast.expr]:
        """Return the ways of a choice that may be taken."""
        test = self.test(node.test, scope)
        return [node.body, node.orelse] if test is None else [node.body if test else node.orelse]

    def only_node(self, node: ast.expr, scope: Scope) -> tuple[ast.expr, Scope] | None:
        """Return what a name stands for, with its block, and any other expression as it is; None of a name that may hold
        several, or what is not seen."""
        held = self.may_be(node, scope)
        return held[0] if len(held) == 1 else None

    def may_set(self, node: ast.expr, key: str, scope: Scope) -> bool:
        """Tell whether a statement may set a key of the dict that a name holds, in its block or in another."""
        holder = scope.holder(node.id) if isinstance(node, ast.Name) else None
        if holder is None or not isinstance(node, ast.Name):
            return False
        written = holder.changed.get(node.id, {}).get((key,), ())
        elsewhere = holder.changed_elsewhere.get(node.id, ())
        return (key,) in elsewhere or bool(self._live(written, holder, 0, None)[0])

    def _live(
        self, written: Iterable[ast.expr], scope: Scope, depth: int, at: Position | None
    ) -> tuple[list[ast.expr], bool]:
        ways = [(node, scope.ways[id(node)]) for node in written]
        return live(ways, at, lambda guard: self._holds(guard, scope, depth))

    def _holds(self, guard: Guard, scope: Scope, depth: int) -> bool | None:
        """Tell whether a condition holds as it is wanted; None where that is not known."""
        holds = None if guard.test is None else self.test(guard.test, scope, depth)
        return None if holds is None else holds == guard.wanted

    def test(self, node: ast.expr, scope: Scope, depth: int = 0) -> bool | None:
        """Tell whether a condition holds; None where that is not known, or what it asks depends on itself."""
        key = id(node)
        if key in self._asked:
            self.num_cuts += 1
            return None
        if key not in self._tests:
            self._asked.add(key)
            cuts, before = self.num_cuts, self.before_change
            self.before_change = self.asked_before_change.get(key, before)
            value = self.value(node, scope, depth + 1)
            self.before_change = before
            self._asked.discard(key)
            holds = None if value is UNKNOWN else bool(value)
            if self._is_cut_short(cuts):
                return holds
            self._tests[key] = holds
        return self._tests[key]

    def _is_cut_short(self, num_cuts: int) -> bool:
        """Tell whether what was worked out since then depends on a condition that is still being asked."""
        is_cut = bool(self._asked) and self.num_cuts > num_cuts
        return is_cut and self.num_steps < MANY_STEPS

    def forget(self) -> None:
        """Forget what was worked out: parameters have other values now."""
        self._tests.clear()
        self._names.clear()

    def with_changes(
        self, known: Known, name: str, scope: Scope, depth: int, at: Position | None
    ) -> Known:
        """Return a dict with the keys that are set later, in the dicts in it too; one that is set anew, or may be, is not known."""
        if not isinstance(known.value, dict):
            return Known(UNKNOWN, known.place)
        value = dict(known.value)
        changes = scope.changed[name].items()
        for path, written in sorted(changes, key=lambda each: position(each[1][0])):
            nodes, is_sure = self._live(written, scope, depth, at)
            if not nodes:
                continue
            held, key = _inner(value, path)
            once = len(nodes) == 1 and is_sure and (at is not None or key not in held)
            is_whole = key == path[-1]
            held[key] = self.value(nodes[0], scope, depth) if once and is_whole else UNKNOWN
        return Known(value, known.place)


def _inner(value: dict[object, object], path: tuple[str, ...]) -> tuple[dict[object, object], str]:
    """Return the dict in which the last key of a path is set, and that key; an earlier one where no dict is known under it."""
    for depth, key in enumerate(path[:-1]):
        inner = bare(value.get(key))
        if not isinstance(inner, dict):
            return value, path[depth]
        value[key] = inner = dict(inner)
        value = inner
    return value, path[-1]


def position(node: ast.expr) -> Position:
    """Return where an expression begins."""
    return node.lineno, node.col_offset
