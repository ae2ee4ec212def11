"""Which methods of the repository's classes may run: those of classes that are used, and that something names or a library calls."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.assignments import walk_block
from preflight.scripts.python.modules import FUNCTIONS, Definition, Module, Modules
from preflight.scripts.python.nodes import last_name, parts_of, unparse
from preflight.scripts.python.reach_values import ReachValues
from preflight.scripts.python.scope import Scope
from preflight.values import dataclass

PLAIN_DECORATORS = lazy_pattern(
    r"dataclass|cache|property|static|classmethod|contextmanager|overload|wraps|final|no_grad|inference_mode|compile"
    r"|docstring|deprecat|total_ordering|hydra|abstract|\.setter|override"
)
"""Names of decorators that hand nothing to anybody who would call it later; any other one may register it."""
INERT = frozenset(
    {
        "object", "ABC", "Protocol", "Generic", "Enum", "IntEnum", "StrEnum", "str", "int", "dict", "list", "tuple",
        "NamedTuple", "TypedDict", "Exception", "Module", "Dataset", "IterableDataset", "Sampler",
    }
)  # fmt: skip
"""Bases of libraries that call no method of a class that stands on them, but those that are called by Python and by CALLED."""
CALLED = frozenset({"forward", "train", "eval", "reset_parameters", "extra_repr", "set_epoch"})
MOST_BASES = 16


@dataclass(frozen=True)
class Used:
    """A method that may run, or the body of a class, with its file, the names around it and its class."""

    node: Definition
    module: Module
    outer: Scope
    cls: ast.ClassDef | None


class ClassesUsed:
    """The classes that something which runs names."""

    def __init__(self, modules: Modules, values: ReachValues) -> None:
        self.modules, self.values = modules, values
        self.bodies: set[int] = set()
        """Ids of the names of class bodies."""
        self._classes: dict[int, ast.ClassDef] = {}
        self._above: dict[int, list[ast.ClassDef]] = {}
        self._waiting: dict[str, list[Used]] = {}
        self._named: set[str] = set()
        self._names_all = False

    def use(self, node: ast.ClassDef, module: Module, outer: Scope) -> list[Used]:
        """Note that a class is used; return what of it, and of the classes that it stands on, may run now."""
        if id(node) in self._classes:
            return []
        self._classes[id(node)] = node
        kin = self.values.kin.setdefault(id(node), {id(node)})
        above: list[ast.ClassDef] = []
        ready: list[Used] = []
        is_open = False
        for base in node.bases:
            own = list(self._own(base, module))
            for cls, held in own:
                ready += self.use(cls, held, held.scope)
                above.append(cls)
                is_open = is_open or id(cls) in self.values.of_library
                kin |= self.values.kin[id(cls)]
            name = last_name(base.value if isinstance(base, ast.Subscript) else base)
            is_inert = name in INERT or name.endswith(("Error", "Exception"))
            is_open = is_open or (not own and not is_inert)
        for each in kin:
            self.values.kin[each] = kin
        self._above[id(node)] = above
        for method in _methods(node):
            self._waiting.setdefault(method.name, []).append(Used(method, module, outer, node))
        if is_open:
            self._open(node)
        # Its own methods first: they call those above it.
        return [Used(node, module, outer, node), *self._ready(node), *ready]

    def _open(self, node: ast.ClassDef) -> None:
        """Note that a library may call any method of a class, and of those that it stands on."""
        if id(node) not in self.values.of_library:
            self.values.of_library.add(id(node))
            for each in self._above.get(id(node), ()):
                self._open(each)

    def _ready(self, node: ast.ClassDef, below: frozenset[int] = frozenset()) -> list[Used]:
        """Return the methods of a class, and of those that it stands on, that may run and did not before; one of which a
        broken file says that it stands on itself, once."""
        ready: list[Used] = []
        for name in dict.fromkeys(each.name for each in _methods(node)):
            waiting = self._waiting.get(name, [])
            own = [each for each in waiting if each.cls is node]
            if own and (self._names_all or id(node) in self.values.of_library or self._runs(own)):
                self._waiting[name] = [each for each in waiting if each.cls is not node]
                ready += own
        ready.sort(key=lambda each: each.node.name != "__init__")
        below = below | {id(node)}
        others = [a for a in self._above.get(id(node), ()) if id(a) not in below]
        return ready + [each for above in others for each in self._ready(above, below)]

    def _runs(self, methods: list[Used]) -> bool:
        name = methods[0].node.name
        is_special = name in CALLED or (name.startswith("__") and name.endswith("__"))
        return (
            is_special
            or name in self._named
            or any(
                not PLAIN_DECORATORS.search(unparse(decorator))
                for each in methods
                for decorator in each.node.decorator_list
            )
        )

    def use_methods(self, name: str) -> list[Used]:
        """Return the methods of a name that something names now."""
        if name in self._named:
            return []
        self._named.add(name)
        return self._waiting.pop(name, [])

    def use_all_methods(self) -> list[Used]:
        """Return every method that does not run yet: a name is made when the script runs."""
        self._names_all = True
        ready = [each for waiting in self._waiting.values() for each in waiting]
        self._waiting.clear()
        return ready

    def registers(self, node: ast.ClassDef, module: Module, depth: int = 0) -> bool:
        """Tell whether the definition of a class hands it to somebody: a metaclass, or `__init_subclass__` above it."""
        metaclasses = [each for each in node.keywords if each.arg == "metaclass"]
        if any(last_name(each.value) != "ABCMeta" for each in metaclasses) or depth > MOST_BASES:
            return True
        above = [each for base in node.bases for each in self._own(base, module)]
        return any(
            any(method.name == "__init_subclass__" for method in _methods(cls))
            or self.registers(cls, held, depth + 1)
            for cls, held in above
            if cls is not node
        )

    def _own(self, base: ast.expr, module: Module) -> Iterator[tuple[ast.ClassDef, Module]]:
        """Yield the classes of the repository that a base means."""
        root, *parts = parts_of(base.value if isinstance(base, ast.Subscript) else base)
        found = list(self.modules.given(module, root.id)) if isinstance(root, ast.Name) else []
        for name in map(last_name, parts):
            found = [m for held, own in found if not own for m in self.modules.member(held, name)]
        for held, name in found:
            for cls in held.definitions.get(name, ()):
                if isinstance(cls, ast.ClassDef):
                    yield cls, held

    def maker(self, node: ast.ClassDef) -> ast.FunctionDef | None:
        """Return what makes the objects of a class."""
        own = [each for each in _methods(node) if each.name == "__init__"]
        if own:
            return own[0] if isinstance(own[0], ast.FunctionDef) else None
        above = self._above.get(id(node), [])
        return self.maker(above[0]) if above and above[0] is not node else None

    def is_open(self, node: ast.ClassDef) -> bool:
        """Tell whether a library may call its methods."""
        return id(node) in self.values.of_library

    def class_node(self, scope: Scope) -> ast.ClassDef | None:
        """Return the class whose method has these names."""
        key = self.values.class_of.get(id(scope))
        return None if key is None else self._classes.get(key)

    def note_scope(self, scope: Scope, node: Definition, cls: ast.ClassDef | None) -> None:
        """Note whose names these are."""
        if cls is None:
            return
        self.values.class_of[id(scope)] = id(cls)
        if node is cls:
            self.bodies.add(id(scope))
            for name, written in scope.assigned.items():
                held = self.values.set_on.setdefault((id(cls), name), [])
                held += [(each, scope) for each in written]

    def set_any(self, holder: list[ast.expr], scope: Scope) -> None:
        """Note that attributes are set under names that are made when the script runs."""
        cls = self.values.class_around(scope)
        if cls is not None and holder and unparse(holder[0]) == "self":
            self.values.of_library.add(cls)
        else:
            self.values.is_open = True

    def note_set(self, target: ast.Attribute, value: ast.expr | None, scope: Scope) -> None:
        """Note what a method sets on `self`."""
        if not isinstance(target.value, ast.Name) or target.value.id != "self":
            return
        cls = self.values.class_around(scope)
        if cls is not None:
            self.values.set_on.setdefault((cls, target.attr), []).append((value, scope))


def _methods(node: ast.ClassDef) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [each for each in walk_block(node.body) if isinstance(each, FUNCTIONS)]
