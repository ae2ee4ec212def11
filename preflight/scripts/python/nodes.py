"""Walks over syntax trees: `ast.walk` and `ast.iter_child_nodes`, without nodes that only say how another is meant.

A check looks at some hundred thousand nodes a dozen times over, and most of its time went into walking there.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from functools import lru_cache

_NO_NODES = frozenset(
    [
        "arg",
        "asname",
        "attr",
        "conversion",
        "ctx",
        "id",
        "is_async",
        "kind",
        "level",
        "lineno",
        "module",
        "op",
        "ops",
        "simple",
        "type_comment",
        "type_ignores",
    ]
)
"""Fields of words and numbers, and of marks: `Load`, `Add`, `Lt`."""


class _Fields(dict[type[ast.AST], tuple[str, ...]]):
    """Of each kind of node the fields that may hold nodes."""

    def __missing__(self, kind: type[ast.AST]) -> tuple[str, ...]:
        self[kind] = tuple(each for each in kind._fields if each not in _NO_NODES)
        return self[kind]


FIELDS = _Fields({ast.Constant: ()})


def children(node: ast.AST) -> list[ast.AST]:
    """Return the nodes right below a node, in order; of `a < b` that is `a` and `b`, and no `Lt` or `Load`."""
    found: list[ast.AST] = []
    for name in FIELDS[node.__class__]:
        value = getattr(node, name, None)
        if value.__class__ is list:
            found += [each for each in value if isinstance(each, ast.AST)]
        elif isinstance(value, ast.AST):
            found.append(value)
    return found


def walk(node: ast.AST) -> Sequence[ast.AST]:
    """Return a node and all below it, those nearer to it first, as `ast.walk` yields them.

    Those of a file are kept: nobody changes a tree that is read.
    """
    return _of_file(node) if node.__class__ is ast.Module else _walked(node)


@lru_cache(maxsize=1 << 14)
def unparse(node: ast.AST) -> str:
    """Return what a node is in Python, as `ast.unparse` writes it: names are compared so, over and over.

    What is too deep to be written, a text added up of hundreds, is `...`: no name is.
    """
    try:
        return ast.unparse(node)
    except RecursionError:
        return "..."


def last_name(node: ast.expr) -> str:
    """Return the last part of a dotted name, empty for anything else."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def parts_of(node: ast.expr) -> list[ast.expr]:
    """Return the parts of a dotted name from its root on: `a`, `a.b` and `a.b.c`."""
    parts = [node]
    while isinstance(node, ast.Attribute):
        node = node.value
        parts.insert(0, node)
    return parts


def targets_of(node: ast.AST) -> list[ast.expr]:
    """Return what a node sets: `a` and `b` of `a = b = 1`, `a` of `a: int = 1`, `a += 1` and `for a in b`; nothing of any other."""
    if isinstance(node, (ast.Assign, ast.Delete)):
        return node.targets
    return [target] if (target := getattr(node, "target", None)) is not None else []


def parts_of_target(target: ast.expr) -> Iterator[ast.expr]:
    """Yield what a target gives a value to: each of `a, self.b = ...`."""
    if isinstance(target, (ast.Tuple, ast.List)):
        for each in target.elts:
            yield from parts_of_target(each)
    else:
        yield target.value if isinstance(target, ast.Starred) else target


def root_of(node: ast.expr) -> str:
    """Return the name of which an expression is a part, `args` of `args.paths[0].name`; empty where none stands at its root."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def keyword_of(call: ast.Call, name: str) -> ast.expr | None:
    """Return what a call gives by a keyword; None where it has none of that name."""
    return next((each.value for each in call.keywords if each.arg == name), None)


def argument_of(call: ast.Call, place: int, name: str) -> ast.expr | None:
    """Return what a call gives a parameter, at its place or by its name; None where it gives it nothing."""
    return call.args[place] if len(call.args) > place else keyword_of(call, name)


def branches_of(node: ast.expr) -> tuple[ast.expr, ...]:
    """Return both ways of a choice, `a if test else b`, and any other expression itself."""
    return (node.body, node.orelse) if isinstance(node, ast.IfExp) else (node,)


def names_in(node: ast.AST) -> list[str]:
    """Return the plain names in an expression, each as often as it stands there."""
    return [each.id for each in walk(node) if isinstance(each, ast.Name)]


def methods_of(cls: ast.ClassDef) -> dict[str, ast.FunctionDef]:
    """Return the methods that a class itself defines, by their names: the last one of each."""
    return {each.name: each for each in cls.body if isinstance(each, ast.FunctionDef)}


def parameters_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Return the parameters that a call fills by their place; what a method is called on is none."""
    names = [each.arg for each in (*function.args.posonlyargs, *function.args.args)]
    return names[names[:1] in (["self"], ["cls"]) :]


def all_arguments(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> list[ast.arg]:
    """Return every parameter, those that gather what is left among them."""
    arguments = function.args
    extra = [a for a in (arguments.vararg, arguments.kwarg) if a is not None]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *extra]


def given_to(
    function: ast.FunctionDef | ast.AsyncFunctionDef, call: ast.Call
) -> dict[str, ast.expr]:
    """Return what a call gives a function, by the names of its parameters and of keywords that it gathers."""
    given = dict(zip(parameters_of(function), call.args, strict=False))
    return {**given, **{each.arg: each.value for each in call.keywords if each.arg is not None}}


@lru_cache(maxsize=64)
def _of_file(tree: ast.AST) -> Sequence[ast.AST]:
    return _walked(tree)


def _walked(node: ast.AST) -> list[ast.AST]:
    found = [node]
    add = found.append
    for each in found:
        for name in FIELDS[each.__class__]:
            value = getattr(each, name, None)
            if value.__class__ is list:
                for item in value:
                    if isinstance(item, ast.AST):
                        add(item)
            elif isinstance(value, ast.AST):
                add(value)
    return found


def is_namespace(node: ast.expr) -> bool:
    """Tell whether an expression is the dict behind an object: `vars(args)`, `args.__dict__`."""
    if isinstance(node, ast.Call):
        return last_name(node.func) == "vars" and len(node.args) == 1
    return isinstance(node, ast.Attribute) and node.attr == "__dict__"


def is_callback(cls: ast.ClassDef) -> bool:
    """Tell whether a class is a callback of a trainer, by the name of a base."""
    return any(last_name(base).endswith("Callback") for base in cls.bases)
