"""A model of a class of the script's own: what it adds to the one that it loads, or stands on, is not known."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.imported_files import LIBRARIES
from preflight.scripts.python.library_classes import dotted
from preflight.scripts.python.nodes import last_name, methods_of, unparse
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import Scope

MODULES = ("Module", "PreTrainedModel")
_WRAPS_MODELS = frozenset({*LIBRARIES, "optimum"})
"""Libraries whose classes of models are those of transformers, or are read elsewhere."""
_OF_TRANSFORMERS = lazy_pattern(r"^transformers\..*(?:Model|For[A-Z]\w+)$")
_MOST_BASES = 8


def own_class(reader: ScriptReader, found: CallFound) -> str:
    """Return the class of the script's own that makes the model which a call loads; empty where that is transformers' own.

    It is the class that is asked to load, where it adds methods, or the module in one of whose methods the call stands.
    A class of a package that nobody knows may add anything.
    """
    func, path = found.node.func, found.scope.path
    for asked in named_classes(_asked(func), found.scope):
        name = last_name(asked)
        is_own = reader.class_of(name, path) is not None
        if _methods(reader, name, path) if is_own else is_strange(reader, asked, path):
            return name
    return _around(reader, found)


def _asked(func: ast.expr) -> ast.expr:
    """Return what a call asks for a model: a class, or what has the method that makes one."""
    return func.value if isinstance(func, ast.Attribute) else func


def named_classes(node: ast.expr, scope: Scope) -> list[ast.expr]:
    """Return what a class is named by: itself, or every class that a variable of the script may hold, or a table of it."""
    return [each for each, _ in _picked(node, scope, 0)]


def _picked(node: ast.expr, scope: Scope, depth: int) -> list[tuple[ast.expr, Scope]]:
    """Return what a name, or an entry of a table that is written out, may be: `KINDS[args.kind][0]`, `KINDS[args.kind].model`;
    any other expression itself."""
    owners: list[tuple[ast.expr, Scope]] = []
    if isinstance(node, ast.Name):
        holder = scope.holder(node.id)
        is_kept = holder is not None and not (depth and _may_grow(node.id, holder))
        parts = holder.assigned.get(node.id, []) if holder is not None and is_kept else []
        owners = [(each, holder or scope) for each in parts]
    elif isinstance(node, ast.IfExp):
        owners = [(node.body, scope), (node.orelse, scope)]
    elif isinstance(node, (ast.Subscript, ast.Attribute)) and depth < _MOST_BASES:
        for owner, around in _picked(node.value, scope, depth + 1):
            entries = _under(owner, node)
            if not entries:
                return [(node, scope)]
            owners += [(each, around) for each in entries]
    if not owners or depth >= _MOST_BASES:
        return [(node, scope)]
    return [each for owner in owners for each in _picked(*owner, depth + 1)]


def _may_grow(name: str, holder: Scope) -> bool:
    """Tell whether something may put more into the table of a name."""
    more = (holder.changed, holder.changed_elsewhere)
    return holder.changes(name) or any(name in each for each in more)


def _under(table: ast.expr, node: ast.Subscript | ast.Attribute) -> list[ast.expr]:
    """Return what a table has where a node asks for it, any entry where only running tells which; nothing of what is no table."""
    asked = node.slice if isinstance(node, ast.Subscript) else ast.Constant(node.attr)
    key = asked.value if isinstance(asked, ast.Constant) else None
    if isinstance(
        table, ast.Call
    ):  # of a named tuple: `Kind(model=A, tokenizer=B)`, `Kind(**{"model": A})`
        given = [each for each in table.keywords if each.arg in (None, key)]
        held = [each.value for each in given if each.arg is not None]
        return held or [e for each in given for e in _under(each.value, node)]
    if isinstance(table, ast.Dict):
        names = [each.value if isinstance(each, ast.Constant) else None for each in table.keys]
        under = [v for name, v in zip(names, table.values, strict=True) if name == key]
        return [] if None in names else under or (table.values if key is None else [])
    elements = table.elts if isinstance(table, (ast.Tuple, ast.List)) else []
    is_place = isinstance(key, int) and -len(elements) <= key < len(elements)
    return [elements[key]] if is_place and isinstance(key, int) else []


def is_strange(reader: ScriptReader, node: ast.expr, path: str) -> bool:
    """Tell whether a class, or a function, is of a package that nobody knows."""
    library = dotted(reader, node, path).partition(".")[0]
    return bool(library) and library not in _WRAPS_MODELS


def class_of_made(reader: ScriptReader, made: CallFound) -> str:
    """Return the module of the script's own that a call makes by itself, or by one of its methods, the class of a package or
    of a file that is not read, or what a class is looked up by; empty for another."""
    func, path = made.node.func, made.scope.path
    if isinstance(func, (ast.Subscript, ast.Call)):
        return unparse(func)
    if made.name[:1].isupper() and reader.class_of(made.name, path) is None:
        library = dotted(reader, func, path).partition(".")[0]
        return "" if library in _WRAPS_MODELS else made.name
    for asked in named_classes(_asked(func), made.scope):
        name = last_name(asked)
        name = reader.class_around(made.scope) if name == "cls" else name
        if _is_module(reader, name, path) and _methods(reader, name, path):
            return name
    return ""


def is_inherited(reader: ScriptReader, made: CallFound) -> bool:
    """Tell whether a class of the script's own is asked for a method that a library gives it: `Twin.from_pretrained(name)`.

    A method of that name which another class of the script has is not the one that runs.
    """
    func = made.node.func
    name = last_name(func.value) if isinstance(func, ast.Attribute) else ""
    is_class = reader.class_of(name, made.scope.path) is not None
    return is_class and made.name not in _methods(reader, name, made.scope.path)


def _line(
    reader: ScriptReader, name: str, path: str, depth: int = 0
) -> Iterator[tuple[ast.ClassDef, str]]:
    """Yield a class of the script's own, and those of its own that it stands on, with their files; nothing for a name of
    another's."""
    held = reader.class_of(name, path)
    if held is None or depth > _MOST_BASES:
        return
    cls, scope = held
    yield cls, scope.path
    for base in map(last_name, cls.bases):
        if base != name:
            yield from _line(reader, base, scope.path, depth + 1)


def _methods(reader: ScriptReader, name: str, path: str) -> list[str]:
    """Return the methods that a class has of the script's own."""
    return [method for cls, _ in _line(reader, name, path) for method in methods_of(cls)]


def _is_module(reader: ScriptReader, name: str, path: str) -> bool:
    """Tell whether a class of the script's own stands on a module of torch's, a model of transformers' or a class of a package
    that nobody knows."""
    return any(
        last_name(base) in MODULES
        or _OF_TRANSFORMERS.match(dotted(reader, base, file))
        or is_strange(reader, base, file)
        for cls, file in _line(reader, name, path)
        for base in cls.bases
        if last_name(base) != cls.name
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
