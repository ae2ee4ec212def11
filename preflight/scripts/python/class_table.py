"""The classes of a script and of the files that it imports, found by the names that each file has for them."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING

from preflight.scripts.python.nodes import methods_of, targets_of, unparse, walk

if TYPE_CHECKING:
    from preflight.scripts.python.scope import Scope

    Held = tuple[ast.ClassDef, Scope]

Imports = Mapping[str, Mapping[str, tuple[str, str]]]
"""File -> name in it, dotted too -> the file of the repository that it is defined in, and its name there."""

_MOST_BASES = 16
"""Classes above one another; also what ends a circle."""


class ClassTable(dict[str, "Held"]):
    """Classes by their own name, the script's where two files have one; `of` and `base_of` tell files apart."""

    def __init__(self, imports: Imports, libraries: Mapping[str, Mapping[str, str]]) -> None:
        super().__init__()
        self.set_on_self: dict[int, list[tuple[str, int, bool]]] = {}
        """Id of a class -> the attributes that its methods set, where, and whether only in place of None."""
        self.called: frozenset[str] = frozenset()
        """Names that some line of a script calls: of the classes among them there are objects."""
        self._imports = imports
        self._libraries = libraries
        """File -> name in it -> dotted name of what is imported from elsewhere."""
        self._in_file: dict[tuple[str, str], Held] = {}
        self._file_of: dict[int, str] = {}
        self._set_once: dict[tuple[int, str], tuple[ast.expr, bool] | None] = {}

    def add(self, cls: ast.ClassDef, scope: Scope) -> None:
        """Note a class of a file."""
        self[cls.name] = self._in_file[scope.path, cls.name] = (cls, scope)
        self._file_of[id(cls)] = scope.path

    def of(self, name: str, path: str) -> Held | None:
        """Return the class that a name of a file means, where it is one of the script's own."""
        return self._in_file.get(self._imports.get(path, {}).get(name, (path, name)))

    def file_of(self, cls: ast.ClassDef) -> str:
        """Return the file that defines a class."""
        return self._file_of.get(id(cls), "")

    def base_of(self, cls: ast.ClassDef, base: ast.expr) -> Held | None:
        """Return the class that a class stands on, where it is one of the script's own."""
        held = self.of(unparse(base), self.file_of(cls))
        return None if held is None or held[0] is cls else held

    def is_own(self, cls: ast.ClassDef, depth: int = 0) -> bool:
        """Tell whether a class stands on none but the script's own, so that no library calls its methods."""
        bases = [base for base in cls.bases if unparse(base) not in ("object", "ABC", "abc.ABC")]
        held = [self.base_of(cls, base) for base in bases]
        own = all(each is not None and self.is_own(each[0], depth + 1) for each in held)
        return own and not cls.keywords and depth < _MOST_BASES

    def trains(self, cls: ast.ClassDef, depth: int = 0) -> bool:
        """Tell whether a class stands on one that is called a trainer."""
        held = [self.base_of(cls, base) for base in cls.bases if depth < _MOST_BASES]
        return any(self.base_name(cls, base).endswith("Trainer") for base in cls.bases) or any(
            each is not None and self.trains(each[0], depth + 1) for each in held
        )

    def base_name(self, cls: ast.ClassDef, base: ast.expr) -> str:
        """Return what a class that another stands on is called where it is defined, `import ... as` undone."""
        written = unparse(base)
        imported = self._libraries.get(self.file_of(cls), {}).get(written, written)
        return imported.rpartition(".")[2]

    def constructor(
        self, cls: ast.ClassDef, depth: int = 0
    ) -> tuple[ast.ClassDef, ast.FunctionDef] | None:
        """Return what makes the objects of a class, and the class that it is of: this one, or one that it stands on."""
        made = methods_of(cls).get("__init__")
        if made is not None:
            return cls, made
        held = [self.base_of(cls, base) for base in cls.bases if depth < _MOST_BASES]
        found = (self.constructor(each[0], depth + 1) for each in held if each is not None)
        return next((each for each in found if each is not None), None)

    def stands_on(self, cls: ast.ClassDef, other: ast.ClassDef, depth: int = 0) -> bool:
        """Tell whether a class is another one, or stands on it."""
        held = [self.base_of(cls, base) for base in cls.bases if depth < _MOST_BASES]
        return cls is other or any(
            each is not None and self.stands_on(each[0], other, depth + 1) for each in held
        )

    def line(self, cls: ast.ClassDef) -> Iterator[ast.ClassDef]:
        """Yield a class, the one that it stands on, and so on, as far as each stands on one of the script's own alone."""
        for _ in range(_MOST_BASES):
            yield cls
            held = [self.base_of(cls, base) for base in cls.bases]
            if len(held) != 1 or held[0] is None:
                return
            cls = held[0][0]

    def _above(self, cls: ast.ClassDef, attribute: str) -> list[ast.ClassDef]:
        """Return the class whose body gives its objects an attribute: this one or the next that it stands on; none where
        that is not sure."""
        giving = (
            each
            for each in self.line(cls)
            if any(attribute in map(unparse, targets_of(node)) for node in each.body)
        )
        return list(islice(giving, 1))

    def set_once(self, cls: ast.ClassDef, attribute: str) -> tuple[ast.expr, bool] | None:
        """Return what alone sets an attribute of a class's objects, and whether its constructor does, not its body; None where
        a line of it, of what it stands on or of what stands on it sets one of that name anywhere else."""
        key = id(cls), attribute
        if key not in self._set_once:
            self._set_once[key] = self._what_sets(cls, attribute)
        return self._set_once[key]

    def _what_sets(self, cls: ast.ClassDef, attribute: str) -> tuple[ast.expr, bool] | None:
        made = self.constructor(cls)
        family = [
            other
            for other, _ in self.values()
            if self.stands_on(cls, other) or self.stands_on(other, cls)
        ]
        is_plain = made is not None or self.is_own(cls)
        if not is_plain or any(other.decorator_list for other in family):
            return None
        used = [other for other in family if other.name in self.called and "cls" not in self.called]
        bodies = self._above(used[0], attribute) if len(used) == 1 else family
        found = [(node, False) for other in bodies for node in other.body]
        found += [] if made is None else [(node, True) for node in made[1].body]
        said = {
            id(target): (node.value, by_constructor)
            for node, by_constructor in found
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None
            for target in targets_of(node)
            if unparse(target) == (f"self.{attribute}" if by_constructor else attribute)
        }
        stores = {
            id(node)
            for other in family
            for node in walk(other)
            if isinstance(node, ast.Attribute)
            and node.attr == attribute
            and not isinstance(node.ctx, ast.Load)
        }
        return next(iter(said.values())) if len(said) == 1 and stores <= said.keys() else None
