"""What the calls of running lines make run, and which calls a function has."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from preflight.scripts.python.bindings import Site
from preflight.scripts.python.by_name import (
    ALL_OF_FILE,
    EVERYTHING,
    imported_by_name,
    is_lazy_module,
    name_made,
    of_subscript,
    sets_any_attribute,
)
from preflight.scripts.python.modules import Meant, Module
from preflight.scripts.python.nodes import is_namespace, last_name, walk
from preflight.scripts.python.scope import Scope
from preflight.scripts.reach.reach_names import ReachNames


class ReachCalls(ReachNames):
    """Names with the calls of what they mean."""

    def _call(self, node: ast.Call, module: Module, scope: Scope) -> None:
        func = node.func
        if _is_own_class(func):
            self.makes_of_class = True
        if isinstance(func, ast.Name):
            self.handled.add(id(func))
            self._use(module, func.id)
            self._note_site((self.modules.given(module, func.id)), (node, scope))
        elif isinstance(func, ast.Attribute):
            self._note_site(self._meant(func, module), (node, scope))
            self.by_attribute.setdefault(func.attr, []).append((node, scope))
            self.handled.add(id(func))
            table = self.lookups.table(func.value, module)
            if (
                table is not None
                and func.attr in ("get", "keys")
                and isinstance(func.value, ast.Name)
            ):
                self._use_name_only(func.value, module)
                if func.attr == "get" and node.args:
                    self._mapped(self.lookups.pick(table, node.args[0], scope))
            elif table is None and func.attr in ("get", "keys"):
                self.keyed.add(id(func.value))
                if func.attr == "get" and node.args:
                    self._entry(func.value, node.args[0], module, scope)
            self._attribute(func, module)
        elif isinstance(func, ast.Subscript):
            self._call_of_table(node, func, module, scope)
        if last_name(func) in ("isinstance", "issubclass") and len(node.args) == 2:
            self.handled |= {id(each) for each in walk(node.args[1])}
        if sets_any_attribute(node, self.values, scope):
            self.classes.set_any(node.args[:1], scope)
        for path in imported_by_name(node, module, scope, self.modules, self.values):
            self._use_meant(path, "")
        made = name_made(node, module, scope, self.modules, self.values)
        if made in (EVERYTHING, ALL_OF_FILE):
            if not is_lazy_module(self.classes.class_node(scope)):
                self._by_made_name(made, module)
        elif made is not None:
            self._by_getattr(made, module, node)

    def _call_of_table(
        self, node: ast.Call, func: ast.Subscript, module: Module, scope: Scope
    ) -> None:
        """Note the call of what a table has under a key: `TRAINERS[args.stage](args)`."""
        table = self.lookups.table(func.value, module)
        if table is None:
            return
        for each, held in self.lookups.pick(table, func.slice, scope):
            if isinstance(each, ast.Name):
                self._use(held, each.id)
                self._note_site((self.modules.given(held, each.id)), (node, scope))
            else:
                self._all_names(each, held)
        self.handled |= {id(func), id(func.value)}

    def _by_made_name(self, made: str | None, module: Module) -> None:
        if made == ALL_OF_FILE:
            self._use_all(module, by_any_name=True)
        else:
            self.is_whole = False
            self._use_everything()

    def _by_getattr(self, made: str, module: Module, node: ast.Call) -> None:
        """Use what `getattr(x, name)` may mean: a method, or a function of a file."""
        holders = self._meant(node.args[0], module) if node.args else []
        for other, held in holders:
            if not held:
                self._enter(other)
            if not held and not made:
                self._use_all(other)
            elif not held:
                for each in self.modules.member(other, made):
                    self._use_meant(*each)
                    self.handed_on |= {id(d) for d in each[0].definitions.get(each[1], ())}
        if not holders and made:
            self._use_methods(made)
            self.handed_on.add(made)
        elif not holders:
            for method in self.classes.use_all_methods():
                self.handed_on.add(method.node.name)
                self._start(method.node, method.module, method.outer, method.cls)

    def _note_site(self, meant: Iterable[Meant], site: Site) -> None:
        for module, name in meant:
            for node in module.definitions.get(name, ()):
                maker = self.classes.maker(node) if isinstance(node, ast.ClassDef) else node
                if maker is not None:
                    self.functions.setdefault(id(maker), []).append(site)

    def _sites(
        self, function: ast.FunctionDef | ast.AsyncFunctionDef, scope: Scope
    ) -> list[Site] | None:
        """Return the calls of a function; None where something else may call it too."""
        cls = self.classes.class_node(scope)
        if id(function) in self.handed_on or function.name in self.handed_on:
            return None
        sites = list(self.functions.get(id(function), ()))
        if cls is None:
            return sites
        if self.classes.is_open(cls):
            return None
        if function.name == "__init__":
            if any(each in self.handed_on for each in self.values.kin[id(cls)]):
                return None
            return None if self.makes_of_class else [*sites, *self._made_by_others(cls)]
        if function.name.startswith("__") and function.name.endswith("__"):
            return None
        return sites + self.by_attribute.get(function.name, [])

    def _made_by_others(self, cls: ast.ClassDef) -> Iterator[Site]:
        """Yield the calls of `__init__` in classes that may stand on a class: `super().__init__(a)`, `Base.__init__(self, a)`."""
        kin = self.values.kin[id(cls)]
        for call, scope in self.by_attribute.get("__init__", ()):
            inside = self.classes.class_node(scope)
            if inside is None or inside is cls or id(inside) not in kin:
                continue
            holder = call.func.value if isinstance(call.func, ast.Attribute) else None
            is_by_class = isinstance(holder, (ast.Name, ast.Attribute)) and bool(call.args)
            rest = ast.Call(call.func, call.args[1:], call.keywords) if is_by_class else call
            yield (ast.copy_location(rest, call), scope)

    def _subscript(self, node: ast.Subscript, module: Module, scope: Scope) -> None:
        made = of_subscript(node, module)
        if made in (EVERYTHING, ALL_OF_FILE):
            self._by_made_name(made, module)
        elif made is not None:
            self._use(module, made)
            self.handled.add(id(node.value))
        if isinstance(node.ctx, ast.Store) and is_namespace(node.value):
            self.values.is_open = True
        table = self.lookups.table(node.value, module)
        if table is not None:
            self.handled.add(id(node.value))
            if isinstance(node.ctx, ast.Load):
                self._mapped(self.lookups.pick(table, node.slice, scope))
        elif isinstance(node.ctx, ast.Load):
            self.keyed.add(id(node.value))
            self._entry(node.value, node.slice, module, scope)

    def _entry(self, table: ast.expr, key: ast.expr, module: Module, scope: Scope) -> None:
        """Use what a table of another file has under a key, `registry.TRAINERS["sft"]`, as soon as that file runs."""
        if isinstance(table, ast.Name):
            meant = self.modules.given(module, table.id)
        else:
            meant = self._meant(table, module)
        for each in ((other.path, name) for other, name in meant if name):
            if self.lookups.has(each):
                self._mapped(self.lookups.pick(each, key, scope))
            else:
                self.lookups.expect(each, key, scope)

    def _compare(self, node: ast.Compare, module: Module) -> None:
        """Nothing of a table is used by asking whether it has a key."""
        for kind, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(kind, (ast.In, ast.NotIn)):
                self.keyed.add(id(right))
                if self.lookups.table(right, module):
                    self._use_name_only(right, module)


def _is_own_class(func: ast.expr) -> bool:
    """Tell whether a call makes an object of the class that it stands in: `cls()`, `type(self)()`, `self.__class__()`."""
    if isinstance(func, ast.Call):
        return last_name(func.func) == "type"
    return last_name(func) in ("cls", "__class__")
