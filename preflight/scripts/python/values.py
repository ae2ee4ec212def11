"""What an expression of a training script evaluates to, as far as that can be known without running it.

Constants, names that are assigned once, arithmetic, containers, `a if b else c`, f-strings, `os.environ`,
and the attributes of parsed arguments. Anything else is UNKNOWN, and stays so in whatever uses it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence

from preflight.launch import LaunchCommand
from preflight.scripts.python.attribute_changes import Filled, SetOnce, set_before
from preflight.scripts.python.file_paths import ASKS_DISK, OF_FILE, end_of, of_attribute
from preflight.scripts.python.flow import Position
from preflight.scripts.python.names import MAX_DEPTH
from preflight.scripts.python.nodes import last_name, unparse
from preflight.scripts.python.operators import applied
from preflight.scripts.python.own_words import is_argv, word
from preflight.scripts.python.python_calls import DTYPE_NAMES, ENUMERATIONS, PythonCalls
from preflight.scripts.python.scope import UNKNOWN, GivenByImport, Known, Parsed, Scope, SetInside
from preflight.scripts.python.set_variables import is_environment
from preflight.setting import Place

MAX_NESTING = 60
"""Expressions inside expressions, through functions and modules too; Python itself stops at a thousand frames."""
MAX_STEPS = 100_000
"""Expressions looked at in one script: a long one of the public examples takes some hundreds."""
MAX_TEXT = 1_000
"""Characters of what goes into an f-string."""
COUNT_PROCESSES = ("Accelerator", "AcceleratorState", "PartialState")
"""Classes of accelerate whose `num_processes` is how many ranks there are (state.py, 0.33 to 1.15)."""
SetOnObjects = Callable[[str, Scope], "tuple[ast.expr, Scope] | None"]
"""An attribute of `self`, and a method's names -> what alone sets it, and the names there; None where that is not read."""


class Evaluator(PythonCalls):
    """Evaluates expressions of one launch's script."""

    def __init__(
        self,
        command: LaunchCommand,
        names_of: Callable[[str, str], Known | Parsed | None],
        parsed_of: Callable[[ast.Call, Scope], object],
    ) -> None:
        super().__init__(command)
        self.names_of = names_of
        """(path, name) -> what a name imported from a file of the repository is."""
        self.parsed_of = parsed_of
        """A call -> Parsed (or a tuple of them) where it parses the command line, else None."""
        self.copied_attributes: Mapping[str, Sequence[tuple[ast.expr, Scope]]] = {}
        """Those that are set to one of the same name, with the objects that it is taken of."""
        self.filled_attributes: Mapping[str, Filled] = {}
        """Those that are set only where they hold nothing."""
        self.set_on_objects: SetOnObjects = lambda attribute, scope: None
        self.set_once: SetOnce = {}
        self.not_told: set[str] = set()
        """Those whose value was asked for and could not be told."""
        self.most_steps = MAX_STEPS
        self.nesting = 0

    def evaluate(self, node: ast.expr, scope: Scope, depth: int = 0) -> Known:
        """Return the value of an expression; its `value` is UNKNOWN where it cannot be known."""
        here = Place("script", scope.path, "", node.lineno)
        self.num_steps += 1
        if depth > MAX_DEPTH or self.nesting > MAX_NESTING or self.num_steps > self.most_steps:
            self.num_cuts += 1
            return Known(UNKNOWN, here)
        self.nesting += 1
        try:
            found = self._special(node, scope, depth)
        finally:
            self.nesting -= 1
        if isinstance(found, Known):
            return found
        return Known(found, here)

    def _special(self, node: ast.expr, scope: Scope, depth: int) -> object:
        deeper = depth + 1
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, SetInside):
            return self.evaluate(node.value, node.scope, deeper)
        if isinstance(node, GivenByImport):
            return self._imported(node.name, scope)
        if isinstance(node, ast.Name):
            return self.name(node.id, scope, deeper, (node.lineno, node.col_offset))
        if isinstance(node, ast.Attribute):
            return self._attribute(node, scope, deeper)
        if isinstance(node, ast.Call):
            return self._call(node, scope, deeper)
        if isinstance(node, ast.Subscript):
            holder = self.value(node.value, scope, deeper)
            if isinstance(node.slice, ast.Slice):
                return self._cut(holder, node.slice, scope, deeper)
            key = self.value(node.slice, scope, deeper)
            if is_argv(node.value):
                return word(self.command, scope.path, key)
            if is_environment(node.value):
                return self.variable(key, UNKNOWN)
            if isinstance(holder, Parsed) and isinstance(key, str):
                return self.of_parsed(holder, key, node.value)
            return self.of_mapping(holder, key)
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
                return self._or_its_copy(node, scope, deeper)
            return self.evaluate(node.body if test else node.orelse, scope, deeper)
        if isinstance(node, ast.BoolOp):
            return self._bool(node, scope, deeper)
        if isinstance(node, (ast.ListComp, ast.DictComp, ast.SetComp, ast.GeneratorExp)):
            return self.of_loop(node, scope, deeper)
        return self._arithmetic(node, scope, deeper)

    def _or_its_copy(self, node: ast.IfExp, scope: Scope, depth: int) -> object:
        """Return N of `local if os.path.isdir(local) else N`, where the path ends in N: a copy of what has that name."""
        if ASKS_DISK.search(unparse(node.test)) is None:
            return UNKNOWN
        for path, other in ((node.body, node.orelse), (node.orelse, node.body)):
            held = scope.assigned.get(path.id, []) if isinstance(path, ast.Name) else [path]
            end = end_of(held[0]) if len(held) == 1 else None
            named = self.value(other, scope, depth)
            if (
                end is not None
                and isinstance(named, str)
                and self.value(end, scope, depth) == named
            ):
                return named
        return UNKNOWN

    def _cut(self, holder: object, cut: ast.Slice, scope: Scope, depth: int) -> object:
        """Return a part of a list, a tuple or a text: `parser.parse_args_into_dataclasses()[:3]`."""
        bounds: list[int | None] = []
        for each in (cut.lower, cut.upper, cut.step):
            bound = None if each is None else self.value(each, scope, depth)
            if bound is not None and (not isinstance(bound, int) or each is cut.step):
                return UNKNOWN
            bounds.append(bound)
        return holder[slice(*bounds)] if isinstance(holder, (list, tuple, str)) else UNKNOWN

    def name(self, name: str, scope: Scope, depth: int = 0, at: Position | None = None) -> object:
        """Return what a name holds, at a place of its block where one is given."""
        if name == OF_FILE:
            return scope.path
        current: Scope | None = scope
        inner: list[Scope] = []
        while current is not None:
            if name in current.parameters or current.holds(name):
                found = self.held(name, current, depth, at if current is scope else None)
                for each in reversed(inner):
                    if isinstance(found, Known):
                        place = at if each is scope else None
                        found = self.with_changes(found, name, each, depth, place)
                return found
            if name in current.changed:
                inner.append(current)
            current = current.outer
        return self._imported(name, scope)

    def _imported(self, name: str, scope: Scope) -> object:
        imported = self.names_of(scope.path, name)
        if isinstance(imported, Parsed):
            return Known(imported, Place("script", scope.path, name))
        return UNKNOWN if imported is None else imported

    def _attribute(self, node: ast.Attribute, scope: Scope, depth: int) -> object:
        if (
            node.attr in DTYPE_NAMES
            and isinstance(node.value, ast.Name)
            and node.value.id == "torch"
        ):
            return node.attr
        if last_name(node.value) in ENUMERATIONS:
            return node.attr
        is_own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
        if is_own and node.attr in self.for_a_time:
            return self.for_a_time[node.attr]
        if is_own:
            changes = {node.attr, f".{node.attr}"}.intersection(self.changed_attributes)
            set_to = None if changes else self.set_on_objects(node.attr, scope)
            self.not_told |= changes
            return UNKNOWN if set_to is None else self.evaluate(*set_to, depth)
        if node.attr == "num_processes" and self._is_of_accelerate(node.value, scope):
            return self.ranks()
        holder = self.value(node.value, scope, depth)
        if isinstance(holder, Parsed):
            is_changed = node.attr in self.changed_attributes
            if is_changed and node.attr == self.before_change:
                self.num_cuts += 1
                is_changed = False
            if is_changed and not self._is_only_copied(node.attr, holder, depth):
                kept = self._not_filled(node, holder)
                return self._set_before(node, scope, depth) if kept is UNKNOWN else kept
            return self.of_parsed(holder, node.attr, node.value)
        of_path = of_attribute(node.attr, holder)
        if of_path is not UNKNOWN:
            return of_path
        if node.attr == "is_floating_point" and holder in DTYPE_NAMES:
            return "int" not in str(holder)
        if holder is UNKNOWN and isinstance(node.value, ast.Name):
            imported = self.names_of(scope.path, f"{node.value.id}.{node.attr}")
            if isinstance(imported, Known):
                return imported
        return UNKNOWN

    def _is_of_accelerate(self, node: ast.expr, scope: Scope) -> bool:
        """Tell whether an expression is an Accelerator, or a state that accelerate keeps of the process."""
        made = self.only_node(node, scope)
        if made is None or not isinstance(made[0], ast.Call):
            return False
        return last_name(made[0].func) in COUNT_PROCESSES

    def _is_only_copied(self, attribute: str, holder: Parsed, depth: int) -> bool:
        """Tell whether all that sets an attribute takes it of this very object, which keeps what it had."""
        sources = self.copied_attributes.get(attribute, ())
        return len(sources) == self.changed_attributes.get(attribute) and all(
            self.value(source, scope, depth + 1) == holder for source, scope in sources
        )

    def _not_filled(self, node: ast.Attribute, holder: Parsed) -> object:
        """Return what an object holds in an attribute that the script sets only where there is nothing; UNKNOWN for others."""
        filled = self.filled_attributes.get(node.attr)
        before = None if filled is None else self.names_now(holder).get(node.attr)
        if filled is None or before is None or before.value is UNKNOWN:
            return UNKNOWN
        return before if filled.keeps(before.value) or id(node) in filled.asked else UNKNOWN

    def _set_before(self, node: ast.Attribute, scope: Scope, depth: int) -> object:
        value = set_before(node, scope, self.set_once)
        if value is None:
            self.not_told.add(node.attr)
            return UNKNOWN
        outer, self.before_change = self.before_change, node.attr
        known = self.evaluate(value, scope, depth)
        self.before_change = outer
        return known

    def _call(self, node: ast.Call, scope: Scope, depth: int) -> object:
        parsed = self.once((id(node), "()", None), depth, lambda: self.parsed_of(node, scope))
        return self.of_call(node, scope, depth) if parsed is None else parsed

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
        """Return what `and` and `or` give; one side decides where it is False, or True, whatever the others are."""
        is_or = isinstance(node.op, ast.Or)
        result: object = UNKNOWN
        is_known = True
        for operand in node.values:
            result = self.value(operand, scope, depth)
            if result is UNKNOWN:
                is_known = False
            elif bool(result) == is_or and (is_known or isinstance(result, bool)):
                return result
        return result if is_known else UNKNOWN

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
            return applied(
                type(node.op),
                self.value(node.left, scope, depth),
                self.value(node.right, scope, depth),
            )
        if isinstance(node, ast.Compare):
            sides = [self.value(each, scope, depth) for each in (node.left, *node.comparators)]
            held = [
                applied(type(kind), left, right)
                for kind, left, right in zip(node.ops, sides, sides[1:], strict=False)
            ]
            return next((each for each in held if each is UNKNOWN or not each), held[-1])
        return UNKNOWN
