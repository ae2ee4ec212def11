"""What an object of a script's own class holds: its `__init__` sets its attributes one after the other, or it is a dataclass
and the calls that make it say them."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.bindings import Site, told_by
from preflight.scripts.python.class_table import ClassTable
from preflight.scripts.python.dataclass_fields import class_fields, with_set_on_self
from preflight.scripts.python.nodes import unparse, walk
from preflight.scripts.python.operators import is_same
from preflight.scripts.python.scope import UNKNOWN, Known, Scope
from preflight.scripts.python.values import Evaluator
from preflight.setting import Place


def set_by_constructor(
    cls: ast.ClassDef,
    constructors: Iterable[tuple[ast.FunctionDef, Scope]],
    site: Site,
    evaluator: Evaluator,
) -> dict[str, Known] | None:
    """Return the attributes that one call of a class sets; None of a class that has other methods, which are no settings,
    stands on another, or sets attributes by name.

    UNKNOWN are those that are set under a condition, or twice.
    """
    method, own = next((each for each in constructors if each[0] in cls.body), (None, None))
    stands_alone = not cls.decorator_list and all(unparse(base) == "object" for base in cls.bases)
    others = (node for node in cls.body if isinstance(node, _FUNCTIONS) and node is not method)
    if (
        method is None
        or own is None
        or any(others)
        or not stands_alone
        or _BY_NAME.search(unparse(cls))
    ):
        return None
    if any(isinstance(node, ast.Return) for node in walk(method)):
        return None
    names: dict[str, Known] = {}
    with evaluator.told(own, told_by(method, own, site, evaluator)):
        for statement in method.body:
            target, value = _set(statement)
            if target is not None and value is not None:
                place = Place("script", own.path, target.attr, statement.lineno)
                known = evaluator.evaluate(value, own)
                names[target.attr] = Known(known.value, place, known.flag)
    often = [node.attr for node in walk(cls) if isinstance(node, ast.Attribute) and _is_set(node)]
    for name in often:
        if often.count(name) > 1 or name not in names:
            names[name] = Known(UNKNOWN, Place("script", own.path, name, method.lineno))
    return names


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_BY_NAME = lazy_pattern(r"\bsetattr\(|__dict__|vars\(self\)|__setattr__|__getattr")


def _set(statement: ast.stmt) -> tuple[ast.Attribute | None, ast.expr | None]:
    """Return the attribute of `self` that a statement sets, and to what."""
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target: ast.expr = statement.targets[0]
    elif isinstance(statement, ast.AnnAssign):
        target = statement.target
    else:
        return None, None
    is_own = isinstance(target, ast.Attribute) and _is_set(target)
    return (target, statement.value) if is_own and isinstance(target, ast.Attribute) else (None, None)  # fmt: skip


def _is_set(node: ast.Attribute) -> bool:
    is_own = isinstance(node.value, ast.Name) and node.value.id == "self"
    return is_own and not isinstance(node.ctx, ast.Load)


def given_to_field(
    cls: ast.ClassDef,
    attribute: str,
    classes: ClassTable,
    calls: Iterable[Site],
    evaluator: Evaluator,
) -> tuple[ast.expr, Scope] | None:
    """Return what every object of a dataclass holds in a field, as an expression with its names.

    None where the calls that make one do not agree, a method sets the field, or it may be an object of a class that stands
    on it. What a call leaves out is the field's default.
    """
    family = [held for held in classes.values() if classes.stands_on(held[0], cls)]
    made = [held for held in family if held[0].name in classes.called]
    is_plain = all(_is_marked(each) and not classes.constructor(each) for each, _ in family)
    if len(made) != 1 or not is_plain or "cls" in classes.called:
        return None
    fields = class_fields(*made[0], classes)
    if attribute not in fields or attribute in with_set_on_self({}, *made[0], classes):
        return None
    stands_alone = all(classes.base_of(made[0][0], base) for base in made[0][0].bases)
    # fields of a library's class come before its own
    places = [each.name for each in fields.values() if each.is_argument] if stands_alone else []
    given: list[tuple[ast.expr, Scope]] = []
    for call, scope in calls:
        if classes.of(unparse(call.func), scope.path) != made[0]:
            continue
        is_starred = any(isinstance(each, ast.Starred) for each in call.args)
        if is_starred or len(call.args) > len(places) or not all(k.arg for k in call.keywords):
            return None
        said = dict(zip(places, call.args, strict=False))
        said.update((each.arg, each.value) for each in call.keywords if each.arg)
        default = fields[attribute].default
        if attribute in said:
            given.append((said[attribute], scope))
        elif default is None:
            return None
        else:
            given.append((default, fields[attribute].scope))
    values = [evaluator.value(*each) for each in given]
    return given[0] if values and all(is_same(values[0], each) for each in values) else None


def _is_marked(cls: ast.ClassDef) -> bool:
    """Tell whether a class has the `__init__` of a dataclass, and nothing else changes it."""
    names = [unparse(each).partition("(")[0].rpartition(".")[2] for each in cls.decorator_list]
    return names == ["dataclass"]
