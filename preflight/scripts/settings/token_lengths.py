"""How many tokens an expression of a script gives a row at most: joined, cut again, filled up, or as a tokenizer cut them.

Lengths are followed through the names of one function, whatever order its statements run in: the most that a name may
hold, and where it is cut again, no more than that.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from math import inf

from preflight.scripts.python.files import CallFound
from preflight.scripts.python.nodes import last_name, unparse, walk
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import Scope
from preflight.scripts.settings.answer_lengths import IDS, OF_CHATS, tokenizing, told_length
from preflight.scripts.settings.token_cuts import FILLED, PARTS, NotToldError, TokenCuts, step_of
from preflight.scripts.settings.token_names import (
    KEEP_TOKENS,
    TokenNames,
    adds_to,
    bare_tokens,
    cuts_itself,
    is_rows,
    place_of,
    speaks_of,
)

_JOINS_TENSORS = frozenset({"cat", "concat", "concatenate", "hstack"})
_JOINS_LISTS = frozenset({"chain", "from_iterable", "sum"})
_JOINS_ARRAYS = ("np.append", "numpy.append")
_MOST_DEPTH = 40


class TokenLengths(TokenCuts):
    """How long what the names and expressions of one function hold may be, in tokens of a row."""

    def __init__(
        self,
        names: TokenNames,
        scope: Scope,
        reader: ScriptReader,
        column: float | None,
        helper: Callable[[str], TokenLengths | None],
    ) -> None:
        """Follow the names of a function. `column` is how long the tokens are of a row that it is given, None where it is
        given none; `helper` finds another function of the script."""
        super().__init__(scope, reader)
        self.names, self.column, self.helper = names, column, helper
        self.tokenizing = {*tokenizing(reader), OF_CHATS}
        self.is_cut = False
        """Whether what was asked for cuts tokens by a slice."""
        self._asked: list[str] = []

    def returned(self) -> float | None:
        """Return the tokens that the function gives back, at most."""
        return self._most(self.names.given_back)

    def _most(self, nodes: Sequence[ast.expr]) -> float | None:
        return max((each for each in map(self.length, nodes) if each is not None), default=None)

    def _held(self, name: str) -> float | None:
        """Return the tokens that a name holds at most: what it is set to with what is added, cut where it is cut again."""
        if name in self._asked:
            return self._whole(name) or 0.0  # in what it is set to; what is added counts there
        self._asked.append(name)
        try:
            return self._sum_of(name)
        finally:
            self._asked.pop()

    def _whole(self, name: str) -> float | None:
        """Return the tokens of what a column is of, before anything is set in it."""
        owner = self.names.owners.get(name)
        return None if owner is None else self.length(owner)

    def _sum_of(self, name: str) -> float | None:
        values, added = self.names.set.get(name, []), self.names.added.get(name, [])
        own = [v for v, _ in values if cuts_itself(name, v)]
        lengths = [(self.length(v), v, loop) for v, loop in values if v not in own]
        behind = [each for each in lengths if each[0] and adds_to(name, each[1])]
        begins = [each[0] for each in lengths if each not in behind]
        whole = self._whole(name)
        most = max((n for n in (whole, *begins) if n is not None), default=None)
        begun = [loop for _, v, loop in lengths if not speaks_of(name, v)]
        is_either = sum(id(v) in self.names.conditional for _, v, _ in behind) > 1
        for joined, value, loop in behind:  # `ids = ids + more`
            self.is_joined = True
            filled = self.fills(value)
            if filled is not None:
                most = max(most or 0.0, filled)
                continue
            is_endless = joined == inf or (loop is not None and loop not in begun)
            most = (
                inf if is_endless or is_either else (most or 0.0) + (joined or 0.0) - (whole or 0.0)
            )
        for value, loop in added:
            filled = self.padded(value) if most is not None else None
            length = self.length(value)
            if filled is not None:
                most = max(most or 0.0, filled)
            elif length is not None and is_rows(value):
                most = max(most or 0.0, length)
                continue
            elif length is not None:
                most = inf if loop is not None and loop not in begun else (most or 0.0) + length
            self.is_joined = self.is_joined or filled is not None or length is not None
        for value in own:
            uncut = inf if most is None else most
            cut = self._told(lambda node: self._cut_of(name, node), value, uncut)
            if cut is not None and most is not None and id(value) not in self.names.conditional:
                self.is_cut, most = True, min(most, cut)
        return most

    def _cut_of(self, name: str, value: ast.expr) -> float | None:
        """Return N of `ids = ids[:N]`, a name cut by itself, with what stands around it; None where it is not cut."""
        value = bare_tokens(value)
        if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add):
            for one, other in ((value.left, value.right), (value.right, value.left)):
                cut = self._cut_of(name, one)
                if cut is not None and not speaks_of(name, other):
                    return cut + (self.length(other) or 0.0)
        if not isinstance(value, ast.Subscript) or place_of(value.value) != name:
            return None
        return self.left_by(value.slice)

    def length(self, node: ast.expr) -> float | None:
        """Return how many tokens a row has at most that an expression gives, or is a list of; None where it gives none."""
        if len(self._asked) > _MOST_DEPTH:
            raise NotToldError
        name = place_of(node)
        if name and (name in self.names.set or name in self.names.added):
            return self._held(name)
        if isinstance(node, ast.Name):
            return self._outside(node.id)
        if isinstance(node, ast.Subscript):
            return self._part(node)
        if isinstance(node, ast.Attribute):
            return self.length(node.value) if node.attr == IDS else None
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(node, ast.BinOp):
            return self._operation(node)
        if isinstance(node, ast.IfExp):
            return self._most((node.body, node.orelse))
        if isinstance(node, (ast.List, ast.Tuple)):
            behind = [each.value for each in node.elts if isinstance(each, ast.Starred)]
            return self._joined(behind) if behind else self._most(node.elts)
        if isinstance(node, (ast.ListComp, ast.GeneratorExp)):
            return self._comprehension(node)
        return None

    def _outside(self, name: str) -> float | None:
        """Return the tokens that a name holds which a block around the function sets."""
        holder = self.scope.holder(name)
        if holder is None or holder is self.scope or name in self._asked:
            return None
        self._asked.append(name)
        try:
            return self._most(holder.assigned.get(name, ()))
        finally:
            self._asked.pop()

    def _part(self, node: ast.Subscript) -> float | None:
        if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
            if node.slice.value != IDS:
                return None
            whole = self.length(node.value)
            return self.column if whole is None and isinstance(node.value, ast.Name) else whole
        return self._cut(self.length(node.value), self.left_by, node.slice)

    def _cut(
        self, whole: float | None, ask: Callable[[ast.expr], float | None], node: ast.expr
    ) -> float | None:
        most = None if whole is None else self._told(ask, node, whole)
        if whole is None or most is None:
            return self.without(node, whole) if self.is_cut else whole
        self.is_cut = True
        return min(whole, most)

    def _told(
        self, ask: Callable[[ast.expr], float | None], node: ast.expr, whole: float
    ) -> float | None:
        """Return where tokens are cut, None where only the run tells and they are bounded without."""
        try:
            return ask(node)
        except NotToldError:
            if whole == inf:
                raise
            return None

    def _call(self, node: ast.Call) -> float | None:
        name = last_name(node.func)
        if name in self.tokenizing:
            return self._tokenized(node)
        if name == "pad" and node.args:
            return self._filled(node)
        if name in FILLED:
            return self.made_whole(node)
        if name in _JOINS_TENSORS or name in _JOINS_LISTS or unparse(node.func) in _JOINS_ARRAYS:
            return self._joined_by(name, node)
        if name in KEEP_TOKENS or name in PARTS:
            method = node.func.value if isinstance(node.func, ast.Attribute) else None
            of_method = None if method is None else self.length(method)
            whole = of_method if of_method is not None else self._most(node.args[:1])
            return self._cut(whole, self.cut_into, node)
        return self._helped(node.func)

    def _helped(self, func: ast.expr) -> float | None:
        """Return the tokens that another function of the script gives back, or a method beside this one."""
        is_own = isinstance(func, ast.Attribute) and unparse(func.value) == "self"
        helper = self.helper(last_name(func)) if is_own or isinstance(func, ast.Name) else None
        if helper is None or len(helper._asked) > 0:
            return None
        length = helper.returned()
        self.is_joined, self.is_cut = (
            self.is_joined or helper.is_joined,
            self.is_cut or helper.is_cut,
        )
        return length

    def _filled(self, node: ast.Call) -> float | None:
        """Return how long `F.pad(ids, (0, N - len(ids)))` gets."""
        length = self.length(node.args[0])
        given = [each for part in node.args[1:2] for each in walk(part)]
        given = [self.written(each) for each in given if isinstance(each, ast.expr)]
        rests = [n for n in given if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Sub)]
        if length is None or not rests:
            return length
        self.is_joined = True
        return max(length, *(self.number(each.left) for each in rests))

    def _tokenized(self, node: ast.Call) -> float | None:
        text = node.args[0] if node.args else None
        if isinstance(text, ast.Constant) and isinstance(text.value, str):
            return 0.0  # a mark between parts
        found = CallFound(last_name(node.func), node, self.scope)
        values, is_open = self.reader.keywords(found)
        if "tokenize" in values and values["tokenize"].value is False:
            return None
        truncates = values.get("truncation")
        length = told_length(self.reader, found, values.get("max_length"))
        if truncates is not None and truncates.value not in (None, False) and length is not None:
            if not isinstance(length.value, int):
                raise NotToldError
            return float(length.value)
        if is_open or truncates is not None:
            raise NotToldError
        return inf

    def _joined_by(self, name: str, node: ast.Call) -> float | None:
        parts = node.args[0] if node.args else None
        if parts is None:
            return None
        if isinstance(parts, ast.Starred):
            parts = parts.value
        if name in _JOINS_TENSORS and isinstance(parts, (ast.List, ast.Tuple)):
            return self._joined(parts.elts)
        if name in ("chain", "append") and len(node.args) > 1:
            return self._joined(node.args)
        along = [k.value for k in node.keywords if k.arg in ("dim", "axis")] + node.args[1:2]
        is_stacked = name in _JOINS_TENSORS and any(unparse(each) == "0" for each in along)
        is_number = name == "sum" and not (len(node.args) > 1 and unparse(node.args[1]) == "[]")
        length = None if is_number else self.length(parts)
        if length is None or is_stacked:
            return length
        self.is_joined = True
        return inf

    def _joined(self, parts: Sequence[ast.expr]) -> float | None:
        filled = [n for part in parts if (n := self.padded(part)) is not None]
        told = [(n, is_rows(part)) for part in parts if (n := self.length(part)) is not None]
        if filled and told:
            self.is_joined = True
            return max(*filled, *(n for n, _ in told))
        if any(of_rows for _, of_rows in told):  # one more of several rows
            return max(n for n, _ in told)
        self.is_joined = self.is_joined or sum(n > 0 for n, _ in told) > 1
        return sum(n for n, _ in told) if told else None

    def _operation(self, node: ast.BinOp) -> float | None:
        if isinstance(node.op, ast.Add):
            return self._joined((node.left, node.right))
        length = self.length(node.left)
        times = node.right.value if isinstance(node.right, ast.Constant) else None
        if isinstance(node.op, ast.Mult) and length is not None and isinstance(times, int):
            self.is_joined = self.is_joined or times > 1
            return length * times
        return length if length is not None else self.length(node.right)

    def _comprehension(self, node: ast.ListComp | ast.GeneratorExp) -> float | None:
        for each in node.generators:
            self.names.bind(each.target, each.iter)
        is_flat = len(node.generators) > 1 and isinstance(node.elt, ast.Name)
        elt = node.elt
        if isinstance(elt, ast.Subscript) and step_of(node) and self._is_column(elt.value):
            elt = elt.value  # groups of texts, none of which is cut
        length = self.length(elt)
        if length is not None and is_flat:
            self.is_joined = True
            return inf
        return length

    def _is_column(self, node: ast.expr) -> bool:
        """Tell whether a name stands for a column that a tokenizer gave: `ids` of `for name, ids in tokenizer(texts).items()`."""
        sources = [
            v.func for v, _ in self.names.set.get(place_of(node), ()) if isinstance(v, ast.Call)
        ]
        owners = [each.value for each in sources if isinstance(each, ast.Attribute)]
        named = [v for each in owners for v, _ in self.names.set.get(place_of(each), ())]
        made = (each for each in (*owners, *named) if isinstance(each, ast.Call))
        return any(last_name(each.func) in self.tokenizing for each in made)
