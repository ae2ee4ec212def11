"""Methods of a script's own classes, and which of them a call means: `self.build(512)`, `Runner(name).fit(rows=2)`.

Only of classes that stand on none of a library, which would call them too.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

from preflight.scripts.python.bindings import places_of
from preflight.scripts.python.class_table import ClassTable
from preflight.scripts.python.scope import Scope

Function = tuple[ast.FunctionDef, Scope]
_BINDS = frozenset({"staticmethod", "classmethod"})


class Methods:
    """The methods of a script's own classes, by names that tell those of two classes apart."""

    def __init__(
        self,
        classes: ClassTable,
        class_around: Callable[[Scope], str],
        only_node: Callable[[ast.expr, Scope], tuple[ast.expr, Scope] | None],
        set_on_objects: Callable[[str, Scope], tuple[ast.expr, Scope] | None],
    ) -> None:
        self.classes = classes
        self.class_around = class_around
        self.only_node = only_node
        self.set_on_objects = set_on_objects
        self.functions: dict[str, list[Function]] = {}
        """`file:Class.method` -> the method with its block, alone in its list."""
        self._keys: dict[str, list[str]] = {}
        """Name of a method -> the keys of those that are called so."""
        self._bound: dict[ast.Call, ast.Call] = {}
        """Call of a method by the name of its class -> the same on its object."""

    def add(self, cls: ast.ClassDef, method: ast.FunctionDef, scope: Scope) -> None:
        """Note a method, where none but the script calls it."""
        if (
            is_plain_method(method)
            and not method.name.startswith("__")
            and self.classes.is_own(cls)
        ):
            key = _key(cls, scope.path, method.name)
            self.functions[key] = [(method, scope)]
            self._keys.setdefault(method.name, []).append(key)

    def called(self, func: ast.expr, scope: Scope) -> str:
        """Return the key of the method that a call surely means; empty where it is none, or may be another one."""
        if not isinstance(func, ast.Attribute) or func.attr not in self._keys:
            return ""
        held = self._class_of(func.value, scope)
        if held is None:
            return ""
        cls, is_exact = held
        if not is_exact and self._is_replaced(cls, func.attr):
            return ""
        return self._inherited(cls, func.attr)

    def bound(self, call: ast.Call, scope: Scope) -> ast.Call:
        """Return a call without the object that it hands to a method itself, where it names that by its class."""
        key = self.called(call.func, scope) if call.args else ""
        if not key or self.functions[key][0][0].decorator_list:
            return call
        owner = call.func.value if isinstance(call.func, ast.Attribute) else call.func
        is_class = isinstance(owner, ast.Name) and (
            owner.id == "cls" or self.classes.of(owner.id, scope.path) is not None
        )
        return self._bound.setdefault(call, _without_first(call)) if is_class else call

    def may_be(self, call: ast.Call, scope: Scope) -> Iterator[str]:
        """Yield the keys of the methods that a call may mean whose object is not known, by what it is called with."""
        func = call.func
        if not isinstance(func, ast.Attribute) or self.called(func, scope):
            return
        for key in self._keys.get(func.attr, ()):
            if _takes(*self.functions[key][0], call):
                yield key

    def _class_of(self, node: ast.expr, scope: Scope) -> tuple[ast.ClassDef, bool] | None:
        """Return the class of an object, or the one that is named, and whether it is no class above the object's own."""
        if isinstance(node, ast.Name) and node.id in ("self", "cls"):
            method = scope.around(self.class_around)
            held = method and self.classes.of(self.class_around(method), scope.path)
            return (held[0], False) if held else None
        if isinstance(node, ast.Name) and (named := self.classes.of(node.id, scope.path)):
            return named[0], True
        made: tuple[ast.expr, Scope] | None = None
        if isinstance(node, (ast.Name, ast.Call)):
            made = self.only_node(node, scope)
        elif isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "self":
            made = self.set_on_objects(node.attr, scope)
        if (
            made is None
            or not isinstance(made[0], ast.Call)
            or not isinstance(made[0].func, ast.Name)
        ):
            return None
        held = self.classes.of(made[0].func.id, made[1].path)
        return (held[0], True) if held else None

    def _is_replaced(self, cls: ast.ClassDef, method: str) -> bool:
        """Tell whether a class that stands on one has a method of its own in place of that one's."""
        return any(
            other is not cls and self.classes.stands_on(other, cls) and _defines(other, method)
            for other, _ in self.classes.values()
        )

    def _inherited(self, cls: ast.ClassDef, method: str) -> str:
        """Return the key of a class's method, or of the class's that it has it from."""
        giving = next((each for each in self.classes.line(cls) if _defines(each, method)), None)
        key = "" if giving is None else _key(giving, self.classes.file_of(giving), method)
        return key if key in self.functions else ""


def is_plain_method(method: ast.FunctionDef) -> bool:
    """Tell whether nothing wraps a method: no decorator but those that say what its first parameter is."""
    return all(getattr(each, "id", "") in _BINDS for each in method.decorator_list)


def _without_first(call: ast.Call) -> ast.Call:
    first, *others = call.args
    if isinstance(first, ast.Starred):
        rest = ast.Subscript(first.value, ast.Slice(ast.Constant(1)), ast.Load())
        starred = ast.copy_location(ast.Starred(rest, ast.Load()), first)
        others.insert(0, ast.fix_missing_locations(starred))
    return ast.copy_location(ast.Call(call.func, others, call.keywords), call)


def _key(cls: ast.ClassDef, path: str, method: str) -> str:
    return f"{path}:{cls.name}.{method}"


def _defines(cls: ast.ClassDef, method: str) -> bool:
    return any(getattr(node, "name", "") == method for node in cls.body)


def receiver_of(method: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """Return the parameter that holds what a method is called on, or its class; empty where none does."""
    first = next(iter((*method.args.posonlyargs, *method.args.args)), None)
    return "" if first is None or _is_marked(method, "staticmethod") else first.arg


def is_class_method(method: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return _is_marked(method, "classmethod")


def _is_marked(method: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> bool:
    return any(getattr(each, "id", "") == name for each in method.decorator_list)


def _takes(method: ast.FunctionDef, scope: Scope, call: ast.Call) -> bool:
    """Tell whether a method may be called with these arguments."""
    places = places_of(method, scope)
    named = [each.arg for each in call.keywords]
    if None in named or any(isinstance(each, ast.Starred) for each in call.args):
        return True
    needed = places[: len(places) - len(method.args.defaults)]
    given = {*places[: len(call.args)], *named}
    takes_more = method.args.vararg is not None or len(call.args) <= len(places)
    names = {*places, *(each.arg for each in method.args.kwonlyargs)}
    knows = method.args.kwarg is not None or names.issuperset(filter(None, named))
    return takes_more and knows and given.issuperset(needed)
