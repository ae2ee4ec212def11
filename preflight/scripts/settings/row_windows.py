"""The length of rows that a script's own dataset cuts out of all its tokens: windows of one width, `data[i : i + N]`."""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterator, Mapping, Sequence

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.assignments import returned_by
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.nodes import (
    argument_of,
    last_name,
    methods_of,
    unparse,
    walk,
)
from preflight.scripts.python.operators import applied
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN, Known, Scope
from preflight.scripts.settings.answer_lengths import OF_EVALUATION
from preflight.scripts.settings.given_keywords import given_by
from preflight.scripts.settings.script_settings import said_of
from preflight.scripts.settings.token_names import GIVE_TOKENS
from preflight.setting import Place

_LOADERS = frozenset({"DataLoader", "StatefulDataLoader"})
_ROWS = frozenset({"__getitem__", "__iter__"})
_OF_TOKENS = lazy_pattern(r"input_ids|labels|memmap|fromfile|token", re.IGNORECASE)
"""What the text of a class says whose rows are tokens."""
_OF_ROWS = lazy_pattern(r"batch|\bbs\b|rank|world|worker", re.IGNORECASE)
"""What a width says that counts rows."""
_JOINS = frozenset({"cat", "concat", "concatenate", "hstack"})
_MAKES_ROW = frozenset({"dict", "BatchEncoding", "update"})
"""Functions that are given the columns of a row by their names."""
Above = Mapping[int, ast.AST]
"""Id of a node -> the one that it is a part of."""
_SHORTEST = 64
"""Tokens below which a window is taken for something else."""
_MOST_DEEP = 4


def windowed_rows(reader: ScriptReader) -> Known | None:
    """Return the tokens of a row where all that is trained on are datasets of the script's own that cut windows of one
    width; UNKNOWN where only running tells the width, None where something else may be trained on."""
    widths = [
        _width_of(reader, node, scope, 0)
        for found in reader.possible_calls
        for node, scope in _trained_on(reader, found)
        if not OF_EVALUATION.search(unparse(node))
    ]
    told = [each for each in widths if each is not None]
    if not told or len(told) < len(widths):
        return None
    return told[0] if len({each.value for each in told}) == 1 else Known(UNKNOWN, told[0].place)


def _trained_on(reader: ScriptReader, found: CallFound) -> list[tuple[ast.expr, Scope]]:
    """Return the datasets that a trainer or a loader may be given, each with the names around it."""
    if found.name in _LOADERS:
        rows = argument_of(found.node, 0, "dataset")
        return [] if rows is None else [(rows, found.scope)]
    return given_by(reader, found, "train_dataset") if reader.makes_trainer(found) else []


def _width_of(reader: ScriptReader, node: ast.expr, scope: Scope, depth: int) -> Known | None:
    """Return the width of the windows that a dataset cuts, through names and functions that return it."""
    if depth > _MOST_DEEP:
        return None
    if isinstance(node, ast.Name):
        held = reader.evaluator.may_be(node, scope)
        return _width_of(reader, *held[-1], depth + 1) if held else None
    if not isinstance(node, ast.Call):
        return None
    name = last_name(node.func)
    if name in reader.classes:
        return _window(reader, reader.classes[name][0])
    functions = reader.functions.get(name, ())
    if len(functions) != 1:
        return None
    function, own = functions[0]
    widths = [_width_of(reader, each, own, depth + 1) for each in returned_by(function)]
    same = {None if each is None else each.value for each in widths}
    return widths[0] if len(same) == 1 else None


def _window(reader: ScriptReader, made: ast.ClassDef) -> Known | None:
    """Return the width of all windows that a class cuts; None where it cuts none, or puts several behind each other."""
    methods = methods_of(made).values()
    gives = [each for each in methods if each.name in _ROWS]
    calls = [n for each in gives for n in walk(each) if isinstance(n, ast.Call)]
    if not gives or any(last_name(each.func) in _JOINS for each in calls):
        return None
    if not _OF_TOKENS.search(unparse(made)):
        return None
    scopes = {id(f): scope for held in reader.functions.values() for f, scope in held}
    widths: list[Known] = []
    for method in (each for each in methods if id(each) in scopes):
        for cut in _cuts(method):
            rest = _difference(cut)
            if rest and not any(_OF_ROWS.search(unparse(each)) for _, each in rest):
                widths.append(_sum(reader, rest, scopes[id(method)], cut.lineno))
    values = {each.value for each in widths}
    if UNKNOWN in values:
        return Known(UNKNOWN, widths[0].place)
    lengths = sorted(each for each in values if isinstance(each, int))
    if not lengths or lengths[-1] < _SHORTEST or lengths[-1] - lengths[0] > 1:  # x, and y beside it
        return None
    longest = lengths[-1]
    return next(each for each in widths if each.value == longest)


def _cuts(method: ast.FunctionDef) -> Iterator[ast.Slice]:
    """Yield the slices of a method that are a row each: from a place to a place, and every column up to a width."""
    nodes = walk(method)
    above = {id(child): node for node in nodes for child in ast.iter_child_nodes(node)}
    columns = {id(n) for each in nodes if isinstance(each, ast.DictComp) for n in walk(each.value)}
    for node in nodes:
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
            cut = node.slice
            is_window = cut.upper is not None and (cut.lower is not None or id(node) in columns)
            if is_window and _is_row(node, above, nodes, 0):
                yield ast.copy_location(cut, node)


def _is_row(node: ast.AST, above: Above, nodes: Sequence[ast.AST], depth: int) -> bool:
    """Tell whether an expression becomes a column of a row, or a row of several, and nothing else takes it apart: a loop, or
    a function that may take it for several rows."""
    while True:
        part, node = node, above[id(node)]
        if isinstance(node, (ast.Dict, ast.Return, ast.Yield, ast.DictComp)):
            return True
        if isinstance(node, (ast.ListComp, ast.GeneratorExp)):
            return node.elt is part
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if depth == _MOST_DEEP - 1:
                return False  # a name that is set to what another is set to, and so on
            name = node.targets[0].id
            uses = [n for n in nodes if isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Load)]  # fmt: skip
            return bool(uses) and all(
                _is_counted(each, above) or _is_row(each, above, nodes, depth + 1) for each in uses
            )
        if isinstance(node, ast.Call):
            name = last_name(node.func)
            if name == "append":
                return True
            if name not in GIVE_TOKENS:
                return False
        elif isinstance(node, ast.keyword):
            call = above[id(node)]
            return isinstance(call, ast.Call) and last_name(call.func) in _MAKES_ROW
        elif not isinstance(node, (ast.Tuple, ast.Attribute, ast.Subscript)):
            return False


def _is_counted(node: ast.AST, above: Above) -> bool:
    """Tell whether an expression is only asked for its length."""
    call = above[id(node)]
    return isinstance(call, ast.Call) and last_name(call.func) == "len"


Terms = list[tuple[int, ast.expr]]


def _difference(cut: ast.Slice) -> Terms:
    """Return what a slice's upper end has more than its lower one, each term with its sign."""
    assert cut.upper is not None
    rest = list(_terms(cut.upper, 1)) + ([] if cut.lower is None else list(_terms(cut.lower, -1)))
    left: Terms = []
    for sign, node in rest:
        same = next(
            (each for each in left if each[0] == -sign and unparse(each[1]) == unparse(node)), None
        )
        if same is None:
            left.append((sign, node))
        else:
            left.remove(same)
    return left


def _terms(node: ast.expr, sign: int) -> Iterator[tuple[int, ast.expr]]:
    """Yield the terms of a sum; `(i + 1) * N` is `i * N` and `N`."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)):
        yield from _terms(node.left, sign)
        yield from _terms(node.right, sign if isinstance(node.op, ast.Add) else -sign)
        return
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        for times, by in ((node.left, node.right), (node.right, node.left)):
            if (
                isinstance(times, ast.BinOp)
                and isinstance(times.op, ast.Add)
                and unparse(times.right) == "1"
            ):
                yield (
                    sign,
                    ast.copy_location(ast.BinOp(times.left, ast.Mult(), copy.copy(by)), node),
                )
                yield sign, by
                return
    yield sign, node


def _sum(reader: ScriptReader, terms: Terms, scope: Scope, line: int) -> Known:
    """Return what some terms come to."""
    total: object = 0
    place = Place("script", scope.path, "", line)
    for sign, node in terms:
        known = reader.evaluator.evaluate(node, scope)
        total = applied(ast.Add if sign > 0 else ast.Sub, total, known.value)
        place = known.place if said_of(known) is not None else place
    return Known(total if isinstance(total, int) else UNKNOWN, place)
