"""What an expression of a training script evaluates to, as far as that can be known without running it.

Constants, names that are assigned once, arithmetic, containers, `a if b else c`, f-strings, `os.environ`,
and the attributes of parsed arguments. Anything else is UNKNOWN, and stays so in whatever uses it.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

from preflight.launch import LaunchCommand
from preflight.scripts.scope import UNKNOWN, Known, Parsed, Scope
from preflight.setting import Place

MAX_DEPTH = 24
"""Names that refer to names; also what ends a cycle."""

MAX_NESTING = 60
"""Expressions inside expressions, through functions and modules too; Python itself stops at a thousand frames."""
MAX_ASSIGNMENTS = 50
"""Of one name; what is set more often is a counter of some kind."""
MAX_STEPS = 100_000
"""Expressions looked at in one script: a long one of the public examples takes some hundreds."""

DTYPE_NAMES = ("bfloat16", "float16", "float32", "float64", "half", "float", "uint8", "int8")


_OPERATORS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
    ast.Is: lambda a, b: a is b,
    ast.IsNot: lambda a, b: a is not b,
}
_CASTS: dict[str, Callable[[Any], Any]] = {"int": int, "float": float, "str": str, "bool": bool}
MAX_TEXT = 1_000
"""Characters of what goes into an f-string."""
SET_BY_LAUNCHERS = (
    "ACCELERATE_",
    "FSDP_",
    "GROUP_",
    "LOCAL_",
    "MASTER_",
    "RANK",
    "ROLE_",
    "SLURM_",
    "TORCHELASTIC_",
    "WORLD_SIZE",
)
"""Beginnings of the variables that a launcher gives its ranks: what the caller's shell has says nothing."""


class Evaluator:
    """Evaluates expressions of one launch's script."""

    def __init__(
        self,
        command: LaunchCommand,
        names_of: Callable[[str, str], Known | Parsed | None],
        parsed_of: Callable[[ast.Call, Scope], object],
    ) -> None:
        self.command = command
        self.names_of = names_of
        """(path, name) -> what a name imported from a file of the repository is."""
        self.parsed_of = parsed_of
        """A call -> Parsed (or a tuple of them) where it parses the command line, else None."""
        self.changed_attributes: frozenset[str] = frozenset()
        """Attributes that the script sets on some name: those of parsed arguments may then be other ones."""
        self.num_steps = 0
        self.nesting = 0

    def evaluate(self, node: ast.expr, scope: Scope, depth: int = 0) -> Known:
        """Return the value of an expression; its `value` is UNKNOWN where it cannot be known."""
        here = Place("script", scope.path, "", node.lineno)
        self.num_steps += 1
        if depth > MAX_DEPTH or self.nesting > MAX_NESTING or self.num_steps > MAX_STEPS:
            return Known(UNKNOWN, here)
        self.nesting += 1
        try:
            found = self._special(node, scope, depth)
        finally:
            self.nesting -= 1
        if isinstance(found, Known):
            return found
        return Known(found, here)

    def value(self, node: ast.expr, scope: Scope, depth: int = 0) -> object:
        """Return only the value of an expression."""
        return self.evaluate(node, scope, depth).value

    def _special(self, node: ast.expr, scope: Scope, depth: int) -> object:
        deeper = depth + 1
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return self.name(node.id, scope, deeper)
        if isinstance(node, ast.Attribute):
            return self._attribute(node, scope, deeper)
        if isinstance(node, ast.Call):
            return self._call(node, scope, deeper)
        if isinstance(node, ast.Subscript):
            holder = self.value(node.value, scope, deeper)
            key = self.value(node.slice, scope, deeper)
            if _is_environ(node.value):
                if isinstance(key, str) and key.startswith(SET_BY_LAUNCHERS):
                    return UNKNOWN
                return self.command.env.get(key, UNKNOWN) if isinstance(key, str) else UNKNOWN
            return _item(holder, key)
        if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
            items = [self.value(item, scope, deeper) for item in node.elts]
            if any(item is UNKNOWN for item in items):
                return UNKNOWN
            return tuple(items) if isinstance(node, ast.Tuple) else items
        if isinstance(node, ast.Dict):
            return self._dict(node, scope, deeper)
        if isinstance(node, ast.JoinedStr):
            return self._joined(node, scope, deeper)
        if isinstance(node, ast.IfExp):
            test = self.value(node.test, scope, deeper)
            if test is UNKNOWN:
                return UNKNOWN
            return self.evaluate(node.body if test else node.orelse, scope, deeper)
        if isinstance(node, ast.BoolOp):
            return self._bool(node, scope, deeper)
        return self._arithmetic(node, scope, deeper)

    def name(self, name: str, scope: Scope, depth: int = 0) -> object:
        """Return what a name holds."""
        current: Scope | None = scope
        while current is not None:
            if name in current.parameters:
                return current.parameters[name]
            if name in current.unclear:
                return UNKNOWN
            if name in current.assigned:
                written = current.assigned[name]
                if len(written) > MAX_ASSIGNMENTS:
                    return UNKNOWN
                known = [self.evaluate(node, current, depth + 1) for node in written]
                if not all(_same(item.value, known[0].value) for item in known):
                    return UNKNOWN
                if name in current.changed:
                    return self._with_changes(known[0], name, current, depth)
                return known[0]
            current = current.outer
        imported = self.names_of(scope.path, name)
        if isinstance(imported, Parsed):
            return Known(imported, Place("script", scope.path, name))
        return UNKNOWN if imported is None else imported

    def _with_changes(self, known: Known, name: str, scope: Scope, depth: int) -> Known:
        """Return a dict with the keys that are set later; a key set twice, or anew, is not known."""
        if not isinstance(known.value, dict):
            return Known(UNKNOWN, known.place)
        value = dict(known.value)
        for key, written in scope.changed[name].items():
            once = len(written) == 1 and key not in value
            value[key] = self.value(written[0], scope, depth) if once else UNKNOWN
        return Known(value, known.place)

    def _attribute(self, node: ast.Attribute, scope: Scope, depth: int) -> object:
        if (
            node.attr in DTYPE_NAMES
            and isinstance(node.value, ast.Name)
            and node.value.id == "torch"
        ):
            return node.attr
        holder = self.value(node.value, scope, depth)
        if isinstance(holder, Parsed):
            if node.attr in self.changed_attributes:
                return UNKNOWN
            return holder.names.get(node.attr, UNKNOWN)
        if holder is UNKNOWN and isinstance(node.value, ast.Name):
            imported = self.names_of(scope.path, f"{node.value.id}.{node.attr}")
            if isinstance(imported, Known):
                return imported
        return UNKNOWN

    def _call(self, node: ast.Call, scope: Scope, depth: int) -> object:
        parsed = self.parsed_of(node, scope)
        if parsed is not None:
            return parsed
        name = ast.unparse(node.func)
        if name in ("os.getenv", "os.environ.get", "getenv", "environ.get") and node.args:
            key = self.value(node.args[0], scope, depth)
            if isinstance(key, str) and key.startswith(SET_BY_LAUNCHERS):
                return UNKNOWN
            if isinstance(key, str) and key in self.command.env:
                return Known(self.command.env[key], Place("env", "", key))
            return self.evaluate(node.args[1], scope, depth) if len(node.args) > 1 else None
        if name in _CASTS and len(node.args) == 1 and not node.keywords:
            inner = self.evaluate(node.args[0], scope, depth)
            try:
                return (
                    Known(_CASTS[name](inner.value), inner.place, inner.flag)
                    if (isinstance(inner.value, (str, int, float, bool)))
                    else UNKNOWN
                )
            except (ValueError, OverflowError):
                return UNKNOWN
        if name == "getattr" and len(node.args) >= 2:
            attribute = self.value(node.args[1], scope, depth)
            if isinstance(attribute, str) and attribute in DTYPE_NAMES:
                return attribute
        if name == "vars" and len(node.args) == 1:
            held = self.value(node.args[0], scope, depth)
            if not isinstance(held, Parsed):
                return UNKNOWN
            return {
                key: UNKNOWN if key in self.changed_attributes else known
                for key, known in held.names.items()
            }
        if name == "dict" and not node.args:
            values = {
                keyword.arg: self.value(keyword.value, scope, depth)
                for keyword in node.keywords
                if keyword.arg is not None
            }
            return values if len(values) == len(node.keywords) else UNKNOWN
        return UNKNOWN

    def _dict(self, node: ast.Dict, scope: Scope, depth: int) -> object:
        values: dict[object, object] = {}
        for key, item in zip(node.keys, node.values, strict=True):
            value = self.value(item, scope, depth)
            if key is None:
                if not isinstance(value, dict):
                    return UNKNOWN
                values.update(value)
                continue
            name = self.value(key, scope, depth)
            if not isinstance(name, (str, int)):
                return UNKNOWN
            values[name] = value
        return values

    def _joined(self, node: ast.JoinedStr, scope: Scope, depth: int) -> object:
        """Return an f-string of texts and whole numbers without formats."""
        parts: list[str] = []
        for piece in node.values:
            if isinstance(piece, ast.FormattedValue):
                value = self.value(piece.value, scope, depth)
                if piece.format_spec is not None or piece.conversion != -1:
                    return UNKNOWN
            else:
                value = self.value(piece, scope, depth)
            if not isinstance(value, (str, int)) or len(str(value)) > MAX_TEXT:
                return UNKNOWN
            parts.append(str(value))
        return "".join(parts)

    def _bool(self, node: ast.BoolOp, scope: Scope, depth: int) -> object:
        result: object = UNKNOWN
        for operand in node.values:
            result = self.value(operand, scope, depth)
            if result is UNKNOWN:
                return UNKNOWN
            if bool(result) == isinstance(node.op, ast.Or):
                return result
        return result

    def _arithmetic(self, node: ast.expr, scope: Scope, depth: int) -> object:
        if isinstance(node, ast.UnaryOp):
            value = self.value(node.operand, scope, depth)
            if value is UNKNOWN:
                return UNKNOWN
            if isinstance(node.op, ast.Not):
                return not value
            if isinstance(node.op, ast.USub) and isinstance(value, (int, float)):
                return -value
            return UNKNOWN
        if isinstance(node, ast.BinOp):
            return _applied(
                type(node.op),
                self.value(node.left, scope, depth),
                self.value(node.right, scope, depth),
            )
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            return _applied(
                type(node.ops[0]),
                self.value(node.left, scope, depth),
                self.value(node.comparators[0], scope, depth),
            )
        return UNKNOWN


def _applied(kind: type[ast.AST], left: object, right: object) -> object:
    if left is UNKNOWN or right is UNKNOWN:
        return UNKNOWN
    if kind is ast.Pow:
        if not isinstance(left, int) or not isinstance(right, int):
            return UNKNOWN
        return left**right if 0 <= right <= 64 and abs(left) <= 1024 else UNKNOWN
    if kind is ast.Mod and not _is_number(left):
        return UNKNOWN  # a text filled in, as wide as the format says
    if kind is ast.Mult and not (_is_number(left) and _is_number(right)):
        return UNKNOWN  # a text or a list many times over
    apply = _OPERATORS.get(kind)
    if apply is None:
        return UNKNOWN
    try:
        return apply(left, right)
    except (TypeError, ValueError, ArithmeticError):
        return UNKNOWN


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and abs(value) < 1e15


def _item(holder: object, key: object) -> object:
    if not isinstance(holder, (dict, list, tuple, str)):
        return UNKNOWN
    try:
        item: object = holder[key]  # type: ignore[index,call-overload]
        return item
    except (TypeError, KeyError, IndexError):
        return UNKNOWN


def _same(left: object, right: object) -> bool:
    return type(left) is type(right) and bool(left == right)


def _is_environ(node: ast.expr) -> bool:
    return ast.unparse(node) in ("os.environ", "environ")
