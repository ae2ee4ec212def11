"""What each block of a training script assigns: names, keys of the dicts that they hold, and what changes those later."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence

from preflight.scripts.python.flow import ANYWHERE, Way, ways_of
from preflight.scripts.python.nodes import children, last_name, names_in, unparse
from preflight.scripts.python.scope import UNKNOWN, GivenByImport, Scope, SetInside

CHANGING = ("append", "clear", "extend", "insert", "pop", "popitem", "remove", "setdefault")
"""Methods after which a list or dict holds something else."""


def scope_of(
    body: list[ast.stmt], nodes: Iterable[ast.AST], path: str, outer: Scope | None = None
) -> tuple[Scope, list[ast.FunctionDef]]:
    """Return the names that a block assigns, and the functions that it defines; `nodes` are those of `walk_block`."""
    scope = Scope(path=path, outer=outer)
    functions: list[ast.FunctionDef] = []
    ways = ways_of(body)
    imports: list[ast.Import | ast.ImportFrom] = []
    of_outside: list[ast.Global | ast.Nonlocal] = []
    executes = False
    rewritten: set[int] = set()
    for node in nodes:
        if id(node) in rewritten:
            continue
        if isinstance(node, ast.Expr) and id(node) in ways:
            ways[id(node.value)] = ways[id(node)]
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if isinstance(node, ast.FunctionDef):
                functions.append(node)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                _assign(target, node.value, scope, ways.get(id(node), ANYWHERE))
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            _assign(node.target, node.value, scope, ways.get(id(node), ANYWHERE))
        elif isinstance(node, ast.AugAssign):
            scope.unclear.update(_changed_names([node.target]))
        elif isinstance(node, ast.Delete):
            scope.unclear.update(_changed_names(node.targets))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            _note_method(node, node.func.attr, node.func.value, scope, ways)
        elif isinstance(node, (ast.For, ast.AsyncFor)):
            scope.unclear.update(names_in(node.target))
            entries = entries_anew(node)
            if entries is not None:
                rewritten |= {id(each) for each in ast.walk(node.body[0])}
                _assign(*entries, scope, ways.get(id(node), ANYWHERE))
        elif isinstance(node, (ast.With, ast.AsyncWith)):
            for item in node.items:
                if item.optional_vars is None:
                    continue
                if _opens(item.context_expr):
                    way = ways.get(id(node), ANYWHERE)
                    within = way.starting(item.context_expr)
                    _assign(item.optional_vars, item.context_expr, scope, within)
                else:
                    scope.unclear.update(names_in(item.optional_vars))
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            of_outside.append(node)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            imports.append(node)
        elif isinstance(node, ast.NamedExpr):
            scope.unclear.add(node.target.id)
        elif (
            outer is None and isinstance(node, ast.Call) and getattr(node.func, "id", "") == "exec"
        ):
            executes = True
    if executes:  # `exec(open("configurator.py").read())` may set every one of them
        scope.unclear.update(scope.assigned)
    for node in imports:
        _note_import(node, scope, ways.get(id(node), ANYWHERE))
    for node in of_outside:
        _note_outside(node, scope)
    _note_aliases(scope)
    return scope, functions


def _note_import(node: ast.Import | ast.ImportFrom, scope: Scope, way: Way) -> None:
    """Note that a name which a block assigns may be what it imports: `try: from local import ROWS`, `except: ROWS = 4`."""
    for alias in node.names:
        name = alias.asname or alias.name
        if name in scope.assigned:
            given = ast.copy_location(GivenByImport(), node)
            given.name = name
            scope.ways[id(given)] = way
            scope.assigned[name].append(given)
            scope.assigned[name].sort(key=lambda each: scope.ways[id(each)].end)


def _note_outside(node: ast.Global | ast.Nonlocal, scope: Scope) -> None:
    """Note the names of a block around that one inside it sets; what it only reads is that block's."""
    for name in node.names:
        if not scope.holds(name):
            continue
        around = scope.outer
        while around is not None and around.outer is not None:
            if isinstance(node, ast.Nonlocal) and around.holds(name):
                break
            around = around.outer
        if around is None or not _is_set_once(name, scope, around):
            scope.unclear.add(name)
            if around is not None:
                around.unclear.add(name)
            continue
        inside = ast.copy_location(SetInside(), scope.assigned[name][0])
        inside.value, inside.scope = scope.assigned[name][0], scope
        around.assigned[name] = [inside]
        around.ways[id(inside)] = Way((), False, (0, 0))


def _is_set_once(name: str, scope: Scope, around: Scope) -> bool:
    """Tell whether one statement of a block alone gives a name of the block around something, which has None until then."""
    before = around.assigned.get(name, ())
    is_empty = all(isinstance(each, ast.Constant) and each.value is None for each in before)
    others = around.changes(name) or name in around.changed or name in around.arguments
    return is_empty and not others and not scope.changes(name) and len(scope.assigned[name]) == 1


def _changed_names(targets: Iterable[ast.expr]) -> Iterator[str]:
    """Yield the names that hold something else after `n += 1` or `del n["key"]`; of `args.n += 1` it is `n` of whatever
    has one (`changed_attributes`), and `args` is what it was."""
    for target in targets:
        if not (isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name)):
            yield from names_in(target)[:1]


def _opens(node: ast.expr) -> bool:
    """Tell whether an expression is `open(...)`, of the function or of a path."""
    func = node.func if isinstance(node, ast.Call) else None
    return getattr(func, "id", getattr(func, "attr", "")) == "open"


def _note_method(
    call: ast.Call, method: str, receiver: ast.expr, scope: Scope, ways: dict[int, Way]
) -> None:
    """Note what `settings.pop("bf16")` and `settings["zero"].update(stage=2)` do to a name."""
    name, keys = key_path(receiver)
    if method not in (*CHANGING, "update") or name is None or None in keys:
        return
    path = tuple(map(str, keys))
    way = ways.get(id(call), ANYWHERE)
    if method == "update" and id(call) in ways and all(k.arg for k in call.keywords):
        pairs = _literal_pairs(call.args)
        if pairs is not None:
            for key, value in [*pairs, *((str(k.arg), k.value) for k in call.keywords)]:
                _change(scope, name, (*path, key), value, way)
            return
    if path:
        unknown = ast.copy_location(ast.Constant(UNKNOWN), call)  # type: ignore[arg-type]
        _change(scope, name, path, unknown, way)
    elif method == "update":
        scope.unclear.add(name)
    else:
        scope.grown.setdefault(name, []).append(call)
        scope.ways[id(call)] = way


def _literal_pairs(arguments: list[ast.expr]) -> list[tuple[str, ast.expr]] | None:
    """Return the entries of the dict that `update` is given, none where it is given none; None where one is not read."""
    if not arguments:
        return []
    given = arguments[0]
    if isinstance(given, ast.Call) and last_name(given.func) == "dict" and not given.args:
        told = [(each.arg, each.value) for each in given.keywords if each.arg is not None]
        return told if len(told) == len(given.keywords) else None
    if not isinstance(given, ast.Dict):
        return None
    keys = [each.value if isinstance(each, ast.Constant) else None for each in given.keys]
    if not all(isinstance(key, str) for key in keys):
        return None
    return list(zip(map(str, keys), given.values, strict=True))


def entries_anew(loop: ast.For | ast.AsyncFor) -> tuple[ast.Name, ast.DictComp] | None:
    """Return `settings` and what it is behind `for key, value in settings.items(): if value == "None": settings[key] = None`:
    a dict of the same keys, with other values under some of them; None of any other loop."""
    branch = loop.body[0] if len(loop.body) == 1 and not loop.orelse else None
    told = branch.body[0] if isinstance(branch, ast.If) and not branch.orelse else None
    if not isinstance(branch, ast.If) or len(branch.body) != 1 or not isinstance(told, ast.Assign):
        return None
    key, value = loop.target.elts if isinstance(loop.target, ast.Tuple) and len(loop.target.elts) == 2 else (None, None)  # fmt: skip
    target, over = told.targets[0], loop.iter
    is_own = (
        isinstance(target, ast.Subscript)
        and isinstance(target.value, ast.Name)
        and isinstance(key, ast.Name)
        and isinstance(value, ast.Name)
        and unparse(target.slice) == key.id
        and unparse(over) in (f"{target.value.id}.items()", f"list({target.value.id}.items())")
    )
    if not (is_own and isinstance(told.value, ast.Constant) and isinstance(target, ast.Subscript)):
        return None
    items = over.args[0] if isinstance(over, ast.Call) and over.args else over
    made = ast.comprehension(loop.target, items, [], 0)
    held = ast.IfExp(branch.test, told.value, ast.Name(unparse(value), ast.Load()))
    whole = ast.copy_location(ast.DictComp(ast.Name(unparse(key), ast.Load()), held, [made]), loop)
    name = ast.Name(unparse(target.value), ast.Store())
    return name, ast.fix_missing_locations(whole)


def key_path(node: ast.expr) -> tuple[str | None, tuple[str | None, ...]]:
    """Return the name and the keys of `settings["zero"]["stage"]`; None for a name or a key that is something else."""
    keys: list[str | None] = []
    while isinstance(node, ast.Subscript):
        key = node.slice.value if isinstance(node.slice, ast.Constant) else None
        keys.insert(0, key if isinstance(key, str) else None)
        node = node.value
    return (node.id if isinstance(node, ast.Name) else None), tuple(keys)


def _change(scope: Scope, name: str, path: tuple[str, ...], value: ast.expr, way: Way) -> None:
    scope.changed.setdefault(name, {}).setdefault(path, []).append(value)
    scope.ways[id(value)] = way


def _note_aliases(scope: Scope) -> None:
    """Note what is set under another name of a dict, or of one in it: `zero = config["zero"]; zero["stage"] = 2`."""
    for other, nodes in scope.assigned.items():
        name, keys = key_path(nodes[0])
        changes = scope.changed.get(other)
        if len(nodes) != 1 or not changes or name is None or name == other or None in keys:
            continue
        for path, values in changes.items():
            whole = (*map(str, keys), *path)
            scope.changed.setdefault(name, {}).setdefault(whole, []).extend(values)


def _assign(target: ast.expr, value: ast.expr, scope: Scope, way: Way) -> None:
    if isinstance(target, ast.Name):
        scope.assigned.setdefault(target.id, []).append(value)
        scope.ways[id(value)] = way
    elif isinstance(target, ast.Subscript):
        name, keys = key_path(target)
        if name is not None and None in keys:
            scope.unclear.add(name)
        elif name is not None:
            _change(scope, name, tuple(map(str, keys)), value, way)
    elif isinstance(target, (ast.Tuple, ast.List)):
        if isinstance(value, (ast.Tuple, ast.List)) and len(value.elts) == len(target.elts):
            for each, item in zip(target.elts, value.elts, strict=True):
                _assign(each, item, scope, way)
        else:
            for position, each in enumerate(target.elts):
                picked = ast.Subscript(value, ast.Constant(position), ast.Load())
                for node in (picked, picked.slice):
                    ast.copy_location(node, value)
                _assign(each, picked, scope, way)


def returned_by(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.expr]:
    """Return what stands behind the returns of a function, in order."""
    found = [node.value for node in walk_block(function.body) if isinstance(node, ast.Return)]
    return [each for each in found if each is not None]


def walk_block(body: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """Yield every node of a block in order, functions and classes themselves but not what is inside them."""
    waiting: list[ast.AST] = list(reversed(body))
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            continue
        waiting += reversed(children(node))
