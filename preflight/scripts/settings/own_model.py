"""A model of a class of the script's own: what it adds to the one that it loads, or stands on, is not known."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from preflight.scripts.python.files import CallFound
from preflight.scripts.python.imported_files import LIBRARIES
from preflight.scripts.python.library_classes import dotted
from preflight.scripts.python.nodes import last_name
from preflight.scripts.python.reader import ScriptReader

MODULES = ("Module", "PreTrainedModel")
_WRAPS_MODELS = frozenset({*LIBRARIES, "optimum"})
"""Libraries whose classes of models are those of transformers, or are read elsewhere."""
_MOST_BASES = 8


def own_class(reader: ScriptReader, found: CallFound) -> str:
    """Return the class of the script's own that makes the model which a call loads; empty where that is transformers' own.

    It is the class that is asked to load, where it adds methods, or the module in one of whose methods the call stands.
    A class of a package that nobody knows may add anything.
    """
    func = found.node.func
    asked = func.value if isinstance(func, ast.Attribute) else func
    name = last_name(asked)
    if reader.class_of(name, found.scope.path) is not None:
        return name if _methods(reader, name, found.scope.path) else _around(reader, found)
    library = dotted(reader, asked, found.scope.path).partition(".")[0]
    if library and library not in _WRAPS_MODELS:
        return name
    return _around(reader, found)


def class_of_made(reader: ScriptReader, made: CallFound) -> str:
    """Return the module of the script's own that a call makes by itself, or by one of its methods, or the class of a package
    that nobody knows; empty for another, and for what is made of a model."""
    func = made.node.func
    library = dotted(reader, func, made.scope.path).partition(".")[0]
    given = (*made.node.args, *(each.value for each in made.node.keywords))
    is_around = any(last_name(each).endswith("model") for each in given)
    if library and library not in _WRAPS_MODELS and made.name[:1].isupper() and not is_around:
        return made.name
    name = last_name(func.value) if isinstance(func, ast.Attribute) else made.name
    if name == "cls":
        name = reader.class_around(made.scope)
    is_module = _is_module(reader, name, made.scope.path)
    return name if is_module and _methods(reader, name, made.scope.path) else ""


def is_inherited(reader: ScriptReader, made: CallFound) -> bool:
    """Tell whether a class of the script's own is asked for a method that a library gives it: `Twin.from_pretrained(name)`.

    A method of that name which another class of the script has is not the one that runs.
    """
    func = made.node.func
    name = last_name(func.value) if isinstance(func, ast.Attribute) else ""
    is_class = reader.class_of(name, made.scope.path) is not None
    return is_class and made.name not in _methods(reader, name, made.scope.path)


def _line(reader: ScriptReader, name: str, path: str, depth: int = 0) -> Iterator[ast.ClassDef]:
    """Yield a class of the script's own, and those of its own that it stands on; nothing for a name of another's."""
    held = reader.class_of(name, path)
    if held is None or depth > _MOST_BASES:
        return
    cls, scope = held
    yield cls
    for base in map(last_name, cls.bases):
        if base != name:
            yield from _line(reader, base, scope.path, depth + 1)


def _methods(reader: ScriptReader, name: str, path: str) -> list[str]:
    """Return the methods that a class has of the script's own."""
    nodes = (node for cls in _line(reader, name, path) for node in cls.body)
    return [node.name for node in nodes if isinstance(node, ast.FunctionDef)]


def _is_module(reader: ScriptReader, name: str, path: str) -> bool:
    """Tell whether a class of the script's own stands on a module of torch's or a model of transformers'."""
    return any(
        last_name(base) in MODULES and last_name(base) != cls.name
        for cls in _line(reader, name, path)
        for base in cls.bases
    )


def _around(reader: ScriptReader, found: CallFound) -> str:
    """Return the module of the script's own in one of whose methods a call stands."""
    for cls, _ in reader.classes.values():
        if not any(last_name(base) in MODULES for base in cls.bases):
            continue
        for method in cls.body:
            named = reader.functions.get(getattr(method, "name", ""), ())
            if any(node is method and scope is found.scope for node, scope in named):
                return cls.name
    return ""
