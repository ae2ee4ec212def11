"""Tables of a script from which a name picks what runs: `TRAINERS = {"sft": SFT, "ppo": PPO}; TRAINERS[args.stage](args)`."""

from __future__ import annotations

import ast
from collections.abc import Hashable, Iterator

from preflight.scripts.python.modules import Module, Modules
from preflight.scripts.python.nodes import walk
from preflight.scripts.python.reach_values import ReachValues
from preflight.scripts.python.scope import UNKNOWN, Scope
from preflight.values import dataclass

Key = tuple[str, str]
Entry = tuple[ast.expr, Module]
"""What a table holds, with the file that it stands in."""


@dataclass(frozen=True)
class _Lookup:
    table: Key
    key: ast.expr
    scope: Scope
    picked: object


class Lookups:
    """The tables of the files that run; what they hold is used when it is asked for."""

    def __init__(self, modules: Modules, values: ReachValues) -> None:
        self.modules, self.values = modules, values
        self._tables: dict[Key, list[tuple[object, Entry]]] = {}
        self._open: set[Key] = set()
        self._asked: list[_Lookup] = []
        self._expected: dict[Key, list[tuple[ast.expr, Scope] | None]] = {}

    def has(self, table: Key) -> bool:
        """Tell whether a table of a file was noted."""
        return table in self._tables

    def expect(self, table: Key, key: ast.expr | None = None, scope: Scope | None = None) -> None:
        """Note what is asked of a name that may mean a table of a file which was not looked at yet: what it has under a key,
        or all of it."""
        if table not in self._tables:
            asked = None if key is None or scope is None else (key, scope)
            self._expected.setdefault(table, []).append(asked)

    def note(self, node: ast.Assign, module: Module) -> set[int]:
        """Note a table, or one more entry of it; return the ids of the nodes that wait until somebody asks for them."""
        if len(node.targets) != 1:
            return set()
        target, value = node.targets[0], node.value
        if isinstance(target, ast.Name) and isinstance(value, ast.Dict) and value.keys:
            keys = [each.value if isinstance(each, ast.Constant) else None for each in value.keys]
            if None in keys or not all(map(_waits, value.values)):
                return set()
            return self._add((module.path, target.id), zip(keys, value.values, strict=True), module)
        if isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
            table = self._table(target.value, module)
            if table is None or not isinstance(target.slice, ast.Constant) or not _waits(value):
                return set()
            waiting = self._add(table, [(target.slice.value, value)], module)
            return waiting | {id(target), id(target.value)}
        return set()

    def _add(self, table: Key, entries: object, module: Module) -> set[int]:
        held = self._tables.setdefault(table, [])
        for asked in self._expected.pop(table, ()):
            if asked is None or self._ask(table, *asked) is UNKNOWN:
                self._open.add(table)
        picked = {each.picked for each in self._asked if each.table == table}
        waiting: set[int] = set()
        for key, value in entries:  # type: ignore[attr-defined]
            held.append((key, (value, module)))
            if table not in self._open and key not in picked:
                waiting |= {id(each) for each in walk(value)}
        return waiting

    def _table(self, node: ast.expr, module: Module) -> Key | None:
        if not isinstance(node, ast.Name):
            return None
        if (module.path, node.id) in self._tables:
            return module.path, node.id
        for other, name in self.modules.given(module, node.id):
            if (other.path, name) in self._tables:
                return other.path, name
        return None

    def table(self, node: ast.expr, module: Module) -> Key | None:
        """Return the table that a name means; None where it means none."""
        return self._table(node, module) if self._tables else None

    def pick(self, table: Key, key: ast.expr, scope: Scope) -> list[Entry]:
        """Return what a table has under a key; all of it where the key is not known."""
        picked = self._ask(table, key, scope)
        return self.all_of(table) if picked is UNKNOWN else self._under(table, picked)

    def _ask(self, table: Key, key: ast.expr, scope: Scope) -> object:
        """Note that a table is asked for a key, and return that; UNKNOWN where only running tells."""
        known = self.values.value(key, scope)
        picked = known if isinstance(known, Hashable) and known is not UNKNOWN else UNKNOWN
        self._asked.append(_Lookup(table, key, scope, picked))
        return picked

    def _under(self, table: Key, key: object) -> list[Entry]:
        return [entry for each, entry in self._tables[table] if each == key]

    def all_of(self, table: Key) -> list[Entry]:
        """Return all that a table holds: it is used otherwise than by a key."""
        if table in self._open:
            return []
        self._open.add(table)
        return [entry for _, entry in self._tables[table]]

    def unpicked(self) -> Iterator[tuple[Module, ast.expr]]:
        """Yield what tables hold that nobody asked for."""
        for table, entries in self._tables.items():
            picked = {each.picked for each in self._asked if each.table == table}
            for key, (value, module) in entries if table not in self._open else ():
                if key not in picked:
                    yield module, value

    def again(self) -> Iterator[Entry]:
        """Yield what lookups pick whose key is another one, or not known, now that more calls are."""
        asked, self._asked = self._asked, []
        for each in asked:
            known = self.values.value(each.key, each.scope)
            if each.picked is UNKNOWN or known == each.picked:
                self._asked.append(each)
            else:
                yield from self.pick(each.table, each.key, each.scope)


def _waits(node: ast.expr) -> bool:
    """Tell whether an expression only names things: nothing runs when a table is made of it."""
    if isinstance(node, (ast.Name, ast.Constant)):
        return True
    if isinstance(node, ast.Attribute):
        return _waits(node.value)
    if isinstance(node, (ast.Tuple, ast.List)):
        return all(map(_waits, node.elts))
    return False
