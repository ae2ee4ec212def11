"""Statements that say in another way what a plainer one says, which stands in the tree that is read.

`setattr(args, "packing", True)`, `vars(args)["packing"] = True` and `vars(args).update(packing=True)` are `args.packing = True`;
`args.rows *= 2` is `args.rows = args.rows * 2`; `self.rows, self.length = 2,
length` are two statements; a `match` over values alone is `if`, `elif` and `else`; a dataclass whose objects are called,
as collators are, is a class with the constructor that its decorator writes; `cast(Settings, parse())` of typing is what it
is given.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from types import EllipsisType

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.nodes import is_namespace, last_name, methods_of

_BLOCKS = ("body", "orelse", "finalbody")
SIGN = lazy_pattern(
    r"^[ \t]*(?!self\.\w+[ \t]*[^\w. \t])\w+(?:\.\w+)+[ \t]*(?:[-+*/%&|^@]|//|\*\*|<<|>>)=|setattr|\bcast\(|\bvars\(|__dict__|^[ \t]*match\b.*:|^[ \t]*\w+\.\w+ *,[^=()\n]*=[^=]|^ +def __call__\(",
    re.MULTILINE,
)
"""What stands in a text that has any."""


def write_plainly(tree: ast.Module) -> None:
    """Write every such statement of a new tree as the plainer one that it is."""
    _leave_casts_out(tree)
    repeated = set[int]()
    for node in _with_statements(tree):
        is_repeated = isinstance(node, (ast.For, ast.AsyncFor, ast.While)) or id(node) in repeated
        for name in _BLOCKS:
            block = getattr(node, name, None)
            if isinstance(block, list):
                block[:] = [
                    (None if is_repeated else _grown(each))
                    or _assignment(each)
                    or _branches(each)
                    or each
                    for statement in block
                    for each in _one_by_one(statement)
                ]
                repeated.update(map(id, block) if is_repeated else ())
        if isinstance(node, ast.ClassDef):
            _construct(node)


def _with_statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield a file and its statements, each before what stands in it: that may be changed on the way."""
    waiting: list[ast.AST] = [tree]
    for node in waiting:  # `nodes.walk` would keep what the tree was before
        yield node
        for name in (*_BLOCKS, "handlers", "cases"):
            inside = getattr(node, name, None)
            if isinstance(inside, list):
                waiting += inside


def _leave_casts_out(tree: ast.Module) -> None:
    """Put what `typing.cast` is given in its place."""
    names = set[str]()
    for node in _with_statements(tree):
        if isinstance(node, ast.ImportFrom) and node.module in _TYPING:
            names |= {each.asname or each.name for each in node.names if each.name == "cast"}
        elif isinstance(node, ast.Import):
            modules = (each.asname or each.name for each in node.names if each.name in _TYPING)
            names |= {f"{name}.cast" for name in modules}
    if names:
        _Casts(names).visit(tree)


_TYPING = ("typing", "typing_extensions")


class _Casts(ast.NodeTransformer):
    def __init__(self, names: set[str]) -> None:
        self.names = names

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        is_cast = len(node.args) == 2 and ast.unparse(node.func) in self.names
        return node.args[1] if is_cast else node


def _one_by_one(statement: ast.stmt) -> Iterator[ast.stmt]:
    """Yield the statements that give each attribute its value, where one gives several; the statement itself where a value
    may be what another of them was before."""
    updated = _updates(statement)
    if updated:
        yield from updated
        return
    if not isinstance(statement, ast.Assign):
        yield statement
        return
    target, value = statement.targets[0], statement.value
    if not (isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)):
        yield statement
        return
    names = [ast.unparse(each) for each in target.elts]
    is_plain = (
        len(names) == len(value.elts)
        and len(statement.targets) == 1
        and any(isinstance(each, ast.Attribute) for each in target.elts)
        and all(isinstance(each, (ast.Attribute, ast.Name)) for each in target.elts)
        and not any(ast.unparse(each) in names for each in ast.walk(value) if isinstance(each, ast.expr))
    )  # fmt: skip
    if not is_plain:
        yield statement
        return
    for each, given in zip(target.elts, value.elts, strict=True):
        yield ast.copy_location(ast.Assign([each], given), statement)


def _updates(statement: ast.stmt) -> list[ast.stmt]:
    """Return what `vars(args).update(rows=2, length=512)` sets; nothing where it is given more than keywords."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    func = call.func if isinstance(call, ast.Call) else None
    is_update = isinstance(func, ast.Attribute) and func.attr == "update" and is_namespace(func.value)  # fmt: skip
    if not isinstance(call, ast.Call) or not is_update or call.args:
        return []
    whole = func.value  # type: ignore[union-attr]
    owner = whole.args[0] if isinstance(whole, ast.Call) else whole.value
    found: list[ast.stmt] = []
    for each in call.keywords:
        if each.arg is None:
            return []
        target = ast.copy_location(ast.Attribute(owner, each.arg, ast.Store()), statement)
        found.append(ast.copy_location(ast.Assign([target], each.value), statement))
    return found


def _grown(statement: ast.stmt) -> ast.Assign | None:
    """Return what `args.rows *= 2` is, in no loop, of an attribute of anything but `self`, which counts its steps so."""
    target = statement.target if isinstance(statement, ast.AugAssign) else None
    if not isinstance(statement, ast.AugAssign) or not isinstance(target, ast.Attribute):
        return None
    if last_name(target.value) == "self":
        return None
    before = ast.copy_location(ast.Attribute(target.value, target.attr, ast.Load()), target)
    value = ast.copy_location(ast.BinOp(before, statement.op, statement.value), statement)
    return ast.copy_location(ast.Assign([target], value), statement)


def _assignment(statement: ast.stmt) -> ast.Assign | None:
    call = statement.value if isinstance(statement, ast.Expr) else None
    if isinstance(call, ast.Call):
        is_whole = len(call.args) == 3 and not call.keywords
        if not is_whole or last_name(call.func) not in ("setattr", "__setattr__"):
            return None
        owner, name, value = call.args
    elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Subscript):
        entry, value = statement.targets[0], statement.value
        if len(statement.targets) > 1 or not is_namespace(entry.value):
            return None
        name = entry.slice
        owner = entry.value.args[0] if isinstance(entry.value, ast.Call) else entry.value.value  # type: ignore[attr-defined]
    else:
        return None
    if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
        return None
    target = ast.Attribute(owner, name.value, ast.Store())
    return ast.copy_location(ast.Assign([ast.copy_location(target, statement)], value), statement)


def _branches(statement: ast.stmt) -> ast.If | None:
    """Return the `if` that a `match` is; None where a case takes its subject apart, or gives it another name."""
    if not isinstance(statement, ast.Match):
        return None
    tests = [_test(statement.subject, case) for case in statement.cases]
    if None in tests:
        return None
    below: list[ast.stmt] = []
    for case, test in zip(reversed(statement.cases), reversed(tests), strict=True):
        assert test is not None
        ast.copy_location(test, case.pattern)
        branch = ast.If(ast.fix_missing_locations(test), case.body, below)
        below = [ast.copy_location(branch, statement)]
    (first,) = below
    return first if isinstance(first, ast.If) else None


def _test(subject: ast.expr, case: ast.match_case) -> ast.expr | None:
    values = _values(case.pattern)
    if values is None:
        return None
    tests: list[ast.expr] = [] if case.guard is None else [case.guard]
    if values:
        tests.insert(0, ast.Compare(subject, [ast.In()], [ast.Tuple(values, ast.Load())]))
    if not tests:
        return ast.Constant(True)
    return tests[0] if len(tests) == 1 else ast.BoolOp(ast.And(), tests)


def _values(pattern: ast.pattern) -> list[ast.expr] | None:
    """Return the values of which a pattern wants one, none for `_`; None of any other pattern."""
    if isinstance(pattern, ast.MatchValue):
        return [pattern.value]
    if isinstance(pattern, ast.MatchSingleton):
        return [ast.copy_location(ast.Constant(pattern.value), pattern)]
    if isinstance(pattern, ast.MatchOr):
        each = [_values(one) for one in pattern.patterns]
        return [value for one in each for value in one or ()] if all(each) else None
    is_any = isinstance(pattern, ast.MatchAs) and pattern.pattern is None and pattern.name is None
    return [] if is_any else None


def _construct(cls: ast.ClassDef) -> None:
    """Give a class whose objects are called the `__init__` that `@dataclass` writes, in place of its fields; not where a class
    above it may have fields too, or a field is made by more than its default."""
    methods = methods_of(cls)
    is_alone = all(last_name(base) == "object" for base in cls.bases)
    if not is_alone or "__call__" not in methods or "__init__" in methods:
        return
    fields = [node for node in cls.body if isinstance(node, ast.AnnAssign)]
    values = [_default(each) for each in fields]
    is_written = [last_name(each) for each in cls.decorator_list] == ["dataclass"]
    if not is_written or not fields or ... in values:
        return
    names = [each.target.id for each in fields if isinstance(each.target, ast.Name)]
    given = ast.arguments([], [ast.arg(name) for name in ("self", *names)], None, [], [], None, [])
    given.defaults = [each for each in values if isinstance(each, ast.expr)]
    sets: list[ast.stmt] = []
    for name, field in zip(names, fields, strict=True):
        target = ast.Attribute(ast.Name("self", ast.Load()), name, ast.Store())
        own = ast.Assign([target], ast.Name(name, ast.Load()))
        sets.append(ast.copy_location(own, field))
    made = ast.copy_location(ast.FunctionDef("__init__", given, sets, []), fields[0])
    cls.body = [ast.fix_missing_locations(made), *(n for n in cls.body if n not in fields)]
    cls.decorator_list = []


def _default(field: ast.AnnAssign) -> ast.expr | EllipsisType | None:
    """Return the default of a dataclass's field, None of one without; `...` where that is not all that makes it."""
    kind = ast.unparse(field.annotation)
    if "ClassVar" in kind or "InitVar" in kind:
        return ...
    value = field.value
    if not isinstance(value, ast.Call) or last_name(value.func) != "field":
        return value
    named = {each.arg: each.value for each in value.keywords}
    return named["default"] if "default" in named and "init" not in named else ...
