"""The names of a training script: what each block assigns, once or more often, and what changes it later."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field

from preflight.scripts.python.flow import Way
from preflight.setting import Place, Setting
from preflight.values import dataclass


class _Unknown:
    """The value of what cannot be known."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = _Unknown()


FlagOf = Callable[[Iterable[str]], "Setting | None"]
"""Names of one argument, underscored -> what the command line says, if it does."""


@dataclass(frozen=True)
class Known:
    """A value, where it is written, and the flag that sets it, where one does."""

    value: object
    place: Place
    flag: str = ""
    """Without dashes; empty where no flag reaches the value."""


def bare(value: object) -> object:
    """Return a value without its place, where it is an entry of a file, which knows its own."""
    return value.value if isinstance(value, Known) else value


@dataclass(frozen=True)
class Parsed:
    """The value of `parser.parse_args()`, or of one dataclass of HfArgumentParser: attributes are looked up."""

    names: Mapping[str, Known]


@dataclass(frozen=True)
class Scope:
    """One module or function of a script: the names that it assigns, once or more often."""

    path: str
    assigned: dict[str, list[ast.expr]] = field(default_factory=dict)
    ways: dict[int, Way] = field(default_factory=dict)
    """Id of what is assigned, or set as a key -> how Python comes to that statement."""
    arguments: set[str] = field(default_factory=set)
    """Names of a function's parameters."""
    unclear: set[str] = field(default_factory=set)
    """Names that loops, `with`, `+=`, `global` or deletions change."""
    outer: Scope | None = None
    changed: dict[str, dict[tuple[str, ...], list[ast.expr]]] = field(default_factory=dict)
    """Name -> keys that are set in the dict that it holds, one behind the other for a dict in it -> what they are set to."""
    changed_elsewhere: dict[str, set[tuple[str, ...]]] = field(default_factory=dict)
    """Name of this block -> keys that another block sets in the dict that it holds."""
    grown: dict[str, list[ast.expr]] = field(default_factory=dict)
    """Name -> the calls after which the list or dict that it holds is another: `names.append(name)`."""
    parameters: dict[str, Known] = field(default_factory=dict)
    """Values of a function's parameters, where its calls or its command line interface give them."""
    receiver: str = ""
    """The parameter of a method that holds what it is called on, or its class; empty for any other block."""

    def holds(self, name: str) -> bool:
        """Tell whether a name is one of this block's own."""
        kinds = (self.arguments, self.assigned, self.unclear, self.grown)
        return any(name in kind for kind in kinds)

    def changes(self, name: str) -> bool:
        """Tell whether something may change what a name holds, beside its assignments."""
        return name in self.unclear or name in self.grown

    def holder(self, name: str) -> Scope | None:
        """Return the block that holds a name, this one or one around it; None where none of them does."""
        return self.around(lambda scope: scope.holds(name))

    def around(self, is_meant: Callable[[Scope], object]) -> Scope | None:
        """Return the block of some kind, this one or the nearest around it; None where none of them is."""
        scope: Scope | None = self
        while scope is not None and not is_meant(scope):
            scope = scope.outer
        return scope


class GivenByImport(ast.expr):
    """What an import gives a name, among what a block assigns to that name."""

    _fields = ()
    name: str


class SetInside(ast.expr):
    """What a function sets a name of the block around it to, which it declares `global` or `nonlocal`."""

    _fields = ()
    value: ast.expr
    scope: Scope


def absolute(folder: str, module: str) -> list[str]:
    """Return the files that `import module` may mean, below a folder."""
    relative = module.replace(".", os.sep)
    return [
        os.path.join(folder, relative + ".py"),
        os.path.join(folder, relative, "__init__.py"),
    ]


def starred(
    imports: Mapping[str, tuple[str, str]], modules: Mapping[str, Scope], name: str
) -> tuple[str, str] | None:
    """Return the file that gives a name to one that imports all of it, `from config import *`, and its name there."""
    path, _ = imports.get("*", ("", ""))
    return (path, name) if path in modules and name in modules[path].assigned else None
