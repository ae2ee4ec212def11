"""The types that fields of dataclasses and parameters are annotated with, and a flag's text converted by them."""

from __future__ import annotations

import ast
from typing import Any

from preflight.bool_words import HF_ARGUMENT
from preflight.scripts.python.nodes import unparse
from preflight.scripts.python.scope import UNKNOWN
from preflight.values import NamedTuple


class FieldType(NamedTuple):
    """An annotation without its None, as HfArgumentParser looks at it."""

    name: str
    """int, float, str, bool, literal, or empty for any other."""
    is_list: bool = False
    choices: tuple[Any, ...] = ()
    """Of a Literal."""


def field_type(annotation: ast.expr | None) -> FieldType:
    """Return what an annotation says, `Optional[X]` and `X | None` as X."""
    node = annotation
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        try:
            node = ast.parse(node.value, mode="eval").body
        except SyntaxError:
            return FieldType("")
    members = _members(node)
    if len(members) != 1:
        # HfArgumentParser takes the type beside str.
        members = [each for each in members if unparse(each) != "str"]
    if len(members) != 1:
        return FieldType("")
    node = members[0]
    if isinstance(node, ast.Subscript):
        of = unparse(node.value).rpartition(".")[2]
        if of == "Annotated" and isinstance(node.slice, ast.Tuple):
            return field_type(node.slice.elts[0])
        if of in ("List", "list"):
            return FieldType(field_type(node.slice).name, is_list=True)
        if of == "Literal":
            items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            choices = tuple(item.value for item in items if isinstance(item, ast.Constant))
            return FieldType("literal" if len(choices) == len(items) else "", choices=choices)
        return FieldType("")
    name = unparse(node)
    if name in ("list", "List"):
        return FieldType("", is_list=True)
    return FieldType(name if name in ("int", "float", "str", "bool") else "")


def _members(node: ast.expr | None) -> list[ast.expr]:
    """Return the types of a union, None left out."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _members(node.left) + _members(node.right)
    if isinstance(node, ast.Subscript):
        of = unparse(node.value).rpartition(".")[2]
        items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if of in ("Optional", "Union"):
            return [member for item in items for member in _members(item)]
    if node is None or (isinstance(node, ast.Constant) and node.value is None):
        return []
    return [node]


def converted(value: Any, annotation: ast.expr | None) -> Any:
    """Return a flag's text, or its list of texts, as the field's type says."""
    kind = field_type(annotation)
    if kind.is_list and isinstance(value, (str, list)):
        items = [_converted(item, kind) for item in ([value] if isinstance(value, str) else value)]
        return UNKNOWN if UNKNOWN in items else items
    return _converted(value, kind)


def _converted(value: Any, kind: FieldType) -> Any:
    if not isinstance(value, str):
        return value
    if kind.name in ("int", "float"):
        try:
            return int(value) if kind.name == "int" else float(value)
        except ValueError:
            return UNKNOWN
    if kind.name == "bool":
        switch = HF_ARGUMENT.read(value)
        return UNKNOWN if switch is None else switch
    if kind.name == "literal":
        return next((choice for choice in kind.choices if str(choice) == value), UNKNOWN)
    return value
