"""The lengths at which a script's own code cuts tokens, and up to which it fills them: `ids[:N]`, `[pad] * (N - len(ids))`."""

from __future__ import annotations

import ast

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.nodes import last_name, unparse
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN, Scope
from preflight.scripts.settings.answer_lengths import is_tokenizers, loaded_length

PARTS = frozenset({"reshape", "view", "split"})
"""Methods of arrays and tensors that make rows of one width of all their tokens: `ids.reshape(rows, N)`, `ids.split(N)`."""


FILLED = frozenset({"full", "zeros", "ones", "new_full", "new_zeros", "new_ones"})
"""Functions and methods that make an array or a tensor of a shape, of one number."""
_OF_LENGTH = lazy_pattern(r"\blen\b|\bshape\b|\bsize\(|\bnumel\(|\bmax\(")


class NotToldError(Exception):
    """A length stands in the script that only a run tells."""


class TokenCuts:
    """The numbers of slices and fillings of one function."""

    def __init__(self, scope: Scope, reader: ScriptReader) -> None:
        self.scope, self.reader = scope, reader
        self.is_joined = False
        """Whether what was asked for puts tokens behind each other, or fills rows up."""

    def left_by(self, cut: ast.expr) -> float | None:
        """Return the most that a slice leaves; None where it leaves what may be all."""
        if isinstance(cut, ast.Tuple):
            cut = cut.elts[-1] if cut.elts else cut
        if not isinstance(cut, ast.Slice):
            return None
        lower, upper = cut.lower, cut.upper and self.written(cut.upper)
        if upper is None:
            is_last = isinstance(lower, ast.UnaryOp) and isinstance(lower.op, ast.USub)
            return (
                self.number(lower.operand) if is_last and isinstance(lower, ast.UnaryOp) else None
            )
        if isinstance(upper, ast.UnaryOp):
            return None
        if isinstance(upper, ast.BinOp) and isinstance(upper.op, ast.Add) and lower is not None:
            sides = (upper.left, upper.right)
            rest = [each for each in sides if unparse(each) != unparse(lower)]
            if len(rest) == 1:
                return self.number(rest[0])
        return self.number(upper)

    def without(self, cut: ast.expr, whole: float | None) -> float | None:
        """Return what `[:-1]` leaves of the tokens of a row, and `[1:]`; all of them where a slice is none of these."""
        if not isinstance(cut, ast.Slice) or whole is None:
            return whole
        ends = (cut.lower, cut.upper.operand if isinstance(cut.upper, ast.UnaryOp) else None)
        left_out = [n.value for n in ends if isinstance(n, ast.Constant) and type(n.value) is int]
        return (
            max(0.0, whole - sum(left_out)) if cut.upper is None or ends[1] is not None else whole
        )

    def written(self, node: ast.expr) -> ast.expr:
        """Return what a name of the function is given by its one statement, and any other expression itself."""
        held = self.scope.assigned.get(node.id, ()) if isinstance(node, ast.Name) else ()
        return held[0] if len(held) == 1 else node

    def number(self, node: ast.expr) -> float:
        value = self.reader.evaluator.evaluate(node, self.scope).value
        if value is UNKNOWN and is_tokenizers(node):
            loaded = loaded_length(self.reader)
            value = UNKNOWN if loaded is None else loaded.value
        if not isinstance(value, int) or isinstance(value, bool):
            raise NotToldError
        return float(value)

    def padded(self, node: ast.expr) -> float | None:
        """Return N of `[pad] * (N - len(ids))`, or of a tensor as long, which fills a row up to N."""
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            sides: tuple[ast.expr, ...] = (node.left, node.right)
        elif isinstance(node, ast.Call) and last_name(node.func) in FILLED and node.args:
            shape = self.written(node.args[0])
            sides = (*shape.elts,) if isinstance(shape, ast.Tuple) else (shape,)
        else:
            return None
        for each in sides:
            side = self.written(each)
            if (
                isinstance(side, ast.Call) and last_name(side.func) == "max"
            ):  # `max(0, N - len(ids))`
                side = next((part for part in side.args if isinstance(part, ast.BinOp)), side)
            if isinstance(side, ast.BinOp) and isinstance(side.op, ast.Sub) and _OF_LENGTH.search(unparse(side.right)):  # fmt: skip
                if self.is_measured(side.left):
                    return None  # up to the longest row
                self.is_joined = True
                return self.number(side.left)
        return None

    def fills(self, node: ast.expr) -> float | None:
        """Return N of `ids + [pad] * (N - len(ids))`; None of a sum that fills nothing up."""
        sides = (node.left, node.right) if isinstance(node, ast.BinOp) else ()
        return next((n for each in sides if (n := self.padded(each)) is not None), None)

    def is_measured(self, node: ast.expr) -> bool:
        """Tell whether a number is that of tokens which are there: `max(map(len, rows))`, or a name that is set to it."""
        return _OF_LENGTH.search(unparse(self.written(node))) is not None

    def made_whole(self, node: ast.Call) -> float | None:
        """Return the width of a tensor of one number, which tokens are put into; None of one that is as wide as they are."""
        shape = self.written(node.args[0]) if node.args else ast.Constant(None)
        width = shape.elts[-1] if isinstance(shape, ast.Tuple) and shape.elts else shape
        if not node.args or self.is_measured(width):
            return None
        self.is_joined = True
        return self.number(width)

    def cut_into(self, node: ast.expr) -> float | None:
        """Return the width of the rows that one of PARTS makes; None where it makes one of all, or is another call."""
        if not isinstance(node, ast.Call) or last_name(node.func) not in PARTS or not node.args:
            return None
        sizes = node.args[0].elts if isinstance(node.args[0], ast.Tuple) else node.args
        if isinstance(sizes[-1], ast.UnaryOp):
            return None  # -1, which is all that is left
        return self.number(sizes[0] if last_name(node.func) == "split" else sizes[-1])


def step_of(pieces: ast.expr) -> ast.expr | None:
    """Return N of `[ids[i : i + N] for i in range(0, total, N)]`."""
    if not (isinstance(pieces, ast.ListComp) and isinstance(pieces.elt, ast.Subscript)):
        return None
    cut, steps = pieces.elt.slice, pieces.generators[0].iter
    if not (isinstance(cut, ast.Slice) and isinstance(cut.upper, ast.BinOp)):
        return None
    if not (isinstance(steps, ast.Call) and last_name(steps.func) == "range"):
        return None
    if len(steps.args) != 3 or not isinstance(cut.upper.op, ast.Add):
        return None
    return steps.args[2] if unparse(steps.args[2]) == unparse(cut.upper.right) else None
