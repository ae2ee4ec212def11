"""Options of a script's own parser that nothing in it reads, and those that it sets to something else once it was told them."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator, Mapping

from preflight.scripts.python.commands import defaults_of
from preflight.scripts.python.nodes import is_namespace, last_name, targets_of, walk
from preflight.scripts.python.parsed_object import LOADS, PARSES, ParsedObject
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.repository_files import MOST_FILES, repository_files
from preflight.scripts.python.scope import UNKNOWN
from preflight.scripts.python.uses import WORDS
from preflight.setting import Place


def unread_options(
    reader: ScriptReader,
    options: Collection[str],
    of_library: Collection[str],
    made_by: Collection[str] = PARSES,
) -> frozenset[str]:
    """Return which options nothing reads; those that a library's class has too are its own to read."""
    held = ParsedObject(reader, made_by)
    unread = {each for each in options if each not in held.uses.words}
    if not unread or not held.is_followed:
        return frozenset()
    files = list(repository_files(reader.command, reader.path))
    if len(files) >= MOST_FILES:
        return frozenset()
    others = "\n".join(text for path, text in files if path not in reader.trees)
    unread -= {*WORDS.findall(others)}
    return frozenset(unread - {*of_library} if held.goes_to_library else unread)


_ALL_PARAMETERS = ("locals", "vars", "inspect", "get_current_context", "ctx", "context")
"""Names by which a function may ask for all of its parameters at once."""


def unread_parameters(reader: ScriptReader, options: Collection[str]) -> frozenset[str]:
    """Return which options fill a parameter of a function that fire, typer or click calls, and that the function never names."""
    unread: set[str] = set()
    for function, _, _ in reader.commands:
        names = {
            node.id for each in function.body for node in walk(each) if isinstance(node, ast.Name)
        }
        if names.isdisjoint(_ALL_PARAMETERS):
            unread |= {each.arg for each, _ in defaults_of(function) if each.arg not in names}
    return frozenset(unread.intersection(options))


def changed_options(reader: ScriptReader, options: Mapping[str, object]) -> dict[str, Place]:
    """Return the options, of those with their values, that a script sets to something else after it was told them -> where."""
    held = ParsedObject(reader, PARSES | LOADS)
    untaken = {id(inner) for _, node in reader.untaken for inner in walk(node)}
    changed = {
        name: place
        for name, place, node, is_default in _changes(held)
        if name in options and id(node) not in untaken and not _is_set_to(node, options[name])
        if not is_default or options[name] is None
    }
    for each in reader.evaluator.updates:
        tests = [guard for guard in each.guards if guard.test is not None]
        values = [reader.evaluator.value(guard.test, each.scope) for guard in tests]  # type: ignore[arg-type]
        runs = zip(values, tests, strict=True)
        if not held.holds(each.owner) or any(
            v is not UNKNOWN and bool(v) is not g.wanted for v, g in runs
        ):
            continue
        given = None if each.mapping is None else reader.evaluator.value(each.mapping, each.scope)
        names: Iterable[str] = options if not isinstance(given, dict) else {*options} & {*given}
        place = Place("script", each.scope.path, "", each.owner.lineno)
        changed = {**dict.fromkeys(names, place), **changed}
    return changed


def _changes(held: ParsedObject) -> Iterator[tuple[str, Place, ast.AST, bool]]:
    """Yield the names that statements set on the object, or on a copy of it, to what is not the same again; and whether they
    do so only where it holds nothing."""
    for path, tree in held.reader.trees.items():
        defaults: set[tuple[int, str]] = set()
        for node in walk(tree):
            if isinstance(node, ast.If) and (missing := _asked_to_be_missing(node.test)):
                defaults |= {(id(inner), missing) for each in node.body for inner in walk(each)}
            for name in _set_by(held, node):
                place = Place("script", path, name, getattr(node, "lineno", 0))
                yield name, place, node, (id(node), name) in defaults


def _asked_to_be_missing(test: ast.expr) -> str:
    """Return the attribute that a test asks to hold nothing, as `args.rows is None` does; empty where it asks something else."""
    if not isinstance(test, ast.Compare) or not isinstance(test.ops[0], (ast.Is, ast.Eq)):
        return ""
    is_none = isinstance(test.comparators[0], ast.Constant) and test.comparators[0].value is None
    is_simple = is_none and len(test.ops) == 1 and isinstance(test.left, ast.Attribute)
    return last_name(test.left) if is_simple else ""


def _set_by(held: ParsedObject, node: ast.AST) -> Iterator[str]:
    if isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
        for target in targets_of(node):
            owner = getattr(target, "value", None)
            if isinstance(target, ast.Attribute) and held.holds(owner):
                name = target.attr
            elif isinstance(target, ast.Subscript) and held.holds(_inside(owner)):
                name = str(getattr(target.slice, "value", ""))
            else:
                continue
            if isinstance(node, ast.AugAssign) or not _keeps(node.value, name):
                yield name
    elif isinstance(node, ast.Call):
        yield from _set_by_call(held, node)
    elif isinstance(node, ast.Dict) and any(key is None for key in node.keys):
        copied = [value for key, value in zip(node.keys, node.values, strict=True) if key is None]
        if any(is_namespace(each) and held.holds(_inside(each)) for each in copied):
            yield from (str(getattr(key, "value", "")) for key in node.keys if key is not None)


def _set_by_call(held: ParsedObject, node: ast.Call) -> Iterator[str]:
    name, given = last_name(node.func), [*node.args, None, None]
    if name == "setattr" and held.holds(given[0]) and isinstance(given[1], ast.Constant):
        yield str(given[1].value)
    elif name == "replace" and held.holds(given[0]):
        yield from (each.arg for each in node.keywords if each.arg)
    elif name == "update" and isinstance(node.func, ast.Attribute):
        owner = node.func.value
        if is_namespace(owner) and held.holds(_inside(owner)):
            yield from (each.arg for each in node.keywords if each.arg)
            keys = given[0].keys if isinstance(given[0], ast.Dict) else ()
            yield from (str(getattr(key, "value", "")) for key in keys)


def _is_set_to(node: ast.AST, value: object) -> bool:
    """Tell whether a statement sets what it sets to a value that stands there."""
    given = node.value if isinstance(node, ast.Assign) else None
    return isinstance(given, ast.Constant) and str(given.value) == str(value)


def _inside(node: ast.expr | None) -> ast.expr | None:
    """Return the object of which an expression is the dict, `vars(args)` and `args.__dict__`, or the expression itself."""
    if node is None or not is_namespace(node):
        return node
    return node.args[0] if isinstance(node, ast.Call) else node.value  # type: ignore[attr-defined]


def _keeps(value: ast.expr | None, name: str) -> bool:
    """Tell whether what an option is set to is no more than it was: itself, `int(args.rows)`, `min(args.rows, 512)`, or
    something else where it holds nothing."""
    if isinstance(value, ast.BoolOp):
        return isinstance(value.op, ast.Or) and last_name(value.values[0]) == name
    if isinstance(value, ast.IfExp):
        return name in (last_name(value.body), last_name(value.orelse)) and last_name_in(
            value.test, name
        )
    if isinstance(value, ast.Call):
        is_same = len(value.args) == 1 or last_name(value.func) == "min"
        return is_same and any(last_name(each) == name for each in value.args)
    return isinstance(value, ast.Attribute) and value.attr == name


def last_name_in(node: ast.expr, name: str) -> bool:
    """Tell whether an expression asks for an attribute of that name."""
    return any(last_name(each) == name for each in walk(node) if isinstance(each, ast.expr))
