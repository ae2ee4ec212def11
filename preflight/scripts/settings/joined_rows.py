"""How long the rows are that a script's own code joins or cuts again, after its tokenizer cut them or did not.

A tokenizer's `max_length` bounds what one call gives. A row that is a question and an answer behind each other is as long
as both; turns that a loop puts behind each other are as long as there are turns; what `ids[:2048]` is taken of is not
longer than that.
"""

from __future__ import annotations

import ast
from collections.abc import Container, Iterator, Sequence
from math import inf

from preflight.scripts.python.handed_functions import OF_BATCHES, OF_ROWS, function_of_rows
from preflight.scripts.python.nodes import last_name, walk
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN, Known, Scope
from preflight.scripts.settings.answer_lengths import IDS, OF_CHATS, OF_EVALUATION, tokenizing
from preflight.scripts.settings.token_cuts import NotToldError
from preflight.scripts.settings.token_lengths import TokenLengths
from preflight.scripts.settings.token_names import TokenNames
from preflight.setting import Place


def joined_rows(reader: ScriptReader, cut: int | None) -> tuple[list[Known], frozenset[int]]:
    """Return how long the rows are that the script's functions join, or cut again, and the ids of their tokenizer's calls.

    `cut` is the length in tokens at which the tokenizer cuts what a later function is given, None where that is not told.
    A length that nothing bounds is UNKNOWN.
    """
    functions = _Functions(reader, inf if cut is None else float(cut))
    found: list[Known] = []
    used: set[int] = set()
    for body, scope, lengths in functions.making_rows():
        rows = list(_rows(lengths, scope))
        if (
            id(scope) in functions.of_batches
        ):  # all rows of a batch behind each other are as many tokens
            rows = [known for known in rows if known.value is not UNKNOWN]
        found += rows
        if rows:
            used.update(id(n) for part in body for n in walk(part) if isinstance(n, ast.Call))
    return found, frozenset(used)


def _rows(lengths: TokenLengths, scope: Scope) -> Iterator[Known]:
    """Yield how long the rows are whose tokens one function joins, or cuts by a slice."""
    for made in lengths.names.rows:
        lengths.is_joined = lengths.is_cut = False
        try:
            length = lengths.length(made)
        except (NotToldError, RecursionError):
            if not lengths.is_joined:
                continue
            length = inf
        if length is not None and (lengths.is_joined or (lengths.is_cut and length < inf)):
            place = Place("script", scope.path, IDS, made.lineno)
            yield Known(UNKNOWN if length == inf else int(length), place)


class _Functions:
    """The functions of a script that handle tokens."""

    def __init__(self, reader: ScriptReader, cut: float) -> None:
        self.reader, self.cut = reader, cut
        self.held = {
            name: held for name, held in reader.functions.items() if not OF_EVALUATION.search(name)
        }
        self._asked: dict[str, TokenLengths] = {}
        self.of_batches: set[int] = set()
        """Ids of the scopes of functions that make a batch of rows."""

    def making_rows(self) -> Iterator[tuple[Sequence[ast.AST], Scope, TokenLengths]]:
        """Yield the functions, lambdas among them, that a dataset is given or that call a tokenizer, themselves or by
        another function, where they run."""
        run = {id(found.scope) for found in self.reader.possible_calls}
        given = list(self._given_to_datasets())
        names = {last_name(each) for each, _ in given}
        names_of = {*tokenizing(self.reader), OF_CHATS}
        names_of.update(
            name for name, held in self.held.items() if any(_calls(f, names_of) for f, _ in held)
        )
        for name, held in self.held.items():
            for function, scope in held:
                if name in names or (id(scope) in run and _calls(function, names_of)):
                    yield function.body, scope, self._lengths(function.body, scope, name in names)
        for each, scope in given:
            if isinstance(each, ast.Lambda):
                made = ast.Return(each.body, lineno=each.lineno)
                yield [each], scope, self._lengths([made], scope, True)

    def _lengths(self, body: Sequence[ast.stmt], scope: Scope, is_given: bool) -> TokenLengths:
        column = self.cut if is_given else None
        return TokenLengths(TokenNames(body), scope, self.reader, column, self._helper)

    def _helper(self, name: str) -> TokenLengths | None:
        if name not in self._asked and len(self.held.get(name, ())) == 1:
            function, scope = self.held[name][0]
            self._asked[name] = self._lengths(function.body, scope, False)
        return self._asked.get(name)

    def _given_to_datasets(self) -> Iterator[tuple[ast.expr, Scope]]:
        for found in self.reader.possible_calls:
            makes = [k.value for k in found.node.keywords if k.arg in OF_BATCHES]
            for each in makes:  # an object of a class is called as its `__call__` says
                is_object = isinstance(each, ast.Call) and last_name(each.func) != "partial"
                named = ast.Name("__call__", ast.Load()) if is_object else each
                self.of_batches.update(id(own) for _, own in self.held.get(last_name(named), ()))
                yield named, found.scope
            if found.name in OF_ROWS or found.name == "from_generator":
                function = function_of_rows(found.node)
                if function is not None:
                    yield function, found.scope


def _calls(function: ast.FunctionDef, names: Container[str]) -> bool:
    calls = (node for node in walk(function) if isinstance(node, ast.Call))
    return any(last_name(call.func) in names for call in calls)
