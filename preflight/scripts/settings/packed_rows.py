"""How long the rows are that a script's functions join of rows that are tokens already, until a length is reached.

`data.map(Blocks(2048), batched=True)` and a dataset around another give rows as long as they say, however short a tokenizer
or a filter left what they join: llama-recipes' Concatenator and ConcatDataset (0.0.3 utils/concatenator.py), packing by first
fit, and all that is made after them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.arguments.trainer_spellings import SPELLINGS
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.handed_functions import OF_ROWS, function_of_rows
from preflight.scripts.python.nodes import argument_of, last_name, methods_of, unparse, walk
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN, Known, Scope
from preflight.scripts.settings.answer_lengths import OF_CHATS, OF_EVALUATION, tokenizing
from preflight.scripts.settings.script_settings import ScriptSettings, said_of
from preflight.setting import Place
from preflight.values import NamedTuple

_GROWS = frozenset({"extend", "chain", "from_iterable", "concatenate", "cat", "sum"})
"""Functions that put rows behind each other; `+=` does so too."""
_REACHED = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)


PACKED = lazy_pattern(
    r"(?:max_)?pack(?:ed|ing)?_(?:sequence_|seq_)?(?:max_)?(?:tokens|len|length|size)"
)
"""Arguments of a script's own datasets that say how long a row is that several are joined to."""


class Packed(NamedTuple):
    """A call that joins rows, and until which length."""

    found: CallFound
    length: Known
    keeps_longer: bool
    """Whether a row that is longer alone stays whole: what is joined until it is full, and cut nowhere."""


JOINED_BY = {
    "ConstantLengthDataset": ("seq_length", 5, 1024),
    "pack_dataset": ("seq_length", 1, None),
}
"""What TRL makes rows of one length with -> the parameter that says it, its place, and the length where none is said
(trl/trainer/utils.py 0.4.2 to 0.19; data_utils.py 0.16 to 1.16)."""


def joins_rows(reader: ScriptReader, settings: ScriptSettings) -> bool:
    """Record how long the rows are that a dataset joins, and tell whether that may be more than each is cut at."""
    cut = settings.arguments.get("seq_len")
    is_longer = False
    for found in reader.possible_calls:
        for joined in _lengths_said(reader, found):
            is_known = isinstance(joined.value, int)
            if cut is None or not is_known or joined.value > cut.value:
                is_sure = is_known and found in reader.calls
                settings.put_later("seq_len", joined if is_sure else Known(UNKNOWN, joined.place))
                is_longer = True
    return is_longer


def _lengths_said(reader: ScriptReader, found: CallFound) -> Iterator[Known]:
    """Yield the lengths that a call says rows have that it joins."""
    told = reader.keywords(found)[0] if "data" in found.name.lower() else {}
    yield from (
        each for name, each in told.items() if PACKED.fullmatch(name) and each.value is not None
    )
    if found.name not in JOINED_BY or found.name in {*reader.classes, *reader.functions}:
        return
    name, place, default = JOINED_BY[found.name]
    given = argument_of(found.node, place, name)
    known = Known(default, reader.place(found))
    yield known if given is None else reader.evaluator.evaluate(given, found.scope)


def read_packed(reader: ScriptReader, settings: ScriptSettings, cut: int | None) -> None:
    """Record until which length rows are joined that are cut at another, unless a row alone may be longer and stays whole."""
    for found, length, keeps_longer in packed_rows(reader):
        if cut is None and "seq_len" not in settings.unread:
            flag = reader.flag_of(SPELLINGS["seq_len"])
            cut = int(flag.value) if flag is not None and str(flag.value).isdecimal() else None
        is_bounded = cut is not None or not keeps_longer  # else a row alone may be of any length
        is_sure = isinstance(length.value, int) and found in reader.calls and is_bounded
        is_shorter = cut is not None and isinstance(length.value, int) and length.value <= cut
        if not (is_shorter and (keeps_longer or not is_sure)):
            settings.put_later("seq_len", length if is_sure else Known(UNKNOWN, length.place))


def packed_rows(reader: ScriptReader) -> Iterator[Packed]:
    """Yield the calls of a script that may join the rows that are trained on; a length that is not known is UNKNOWN."""
    names = {*tokenizing(reader), OF_CHATS}
    scopes = {id(f): scope for held in reader.functions.values() for f, scope in held}
    for found in reader.possible_calls:
        for function in _functions(reader, found):
            nodes = list(walk(function))
            calls = {last_name(node.func) for node in nodes if isinstance(node, ast.Call)}
            grows = calls & _GROWS or any(isinstance(node, ast.AugAssign) for node in nodes)
            if id(function) in scopes and grows and not calls & names:
                yield from _joined(reader, found, nodes, scopes[id(function)])


def _functions(reader: ScriptReader, found: CallFound) -> Iterator[ast.FunctionDef]:
    """Yield the functions through which a call puts several rows at once: `map` with batches of them, and a dataset's own."""
    node = found.node
    if found.name in OF_ROWS and any(each.arg == "batched" for each in node.keywords):
        given = function_of_rows(node)
        made = given if isinstance(given, ast.Call) else None
        if isinstance(given, ast.Name) and (holder := found.scope.holder(given.id)) is not None:
            held = holder.assigned.get(given.id, [])
            made = held[0] if len(held) == 1 and isinstance(held[0], ast.Call) else None
        if made is not None and last_name(made.func) == "partial":
            given = next(iter(made.args), None)
        name = "" if given is None else last_name(given)
        if made is not None and last_name(made.func) in reader.classes:
            yield from _methods(reader, last_name(made.func), ("__call__",))
        else:
            yield from (function for function, _ in reader.functions.get(name, ()))
    elif found.name in reader.classes and not OF_EVALUATION.search(unparse(node)):
        bases = [found.name, *map(last_name, reader.classes[found.name][0].bases)]
        if any("dataset" in each.lower() for each in bases):
            yield from _methods(reader, found.name, ("__init__", "__iter__", "__getitem__"))


def _methods(reader: ScriptReader, name: str, names: tuple[str, ...]) -> Iterator[ast.FunctionDef]:
    own = methods_of(reader.classes[name][0])
    yield from (own[each] for each in names if each in own)


def _joined(
    reader: ScriptReader, found: CallFound, nodes: list[ast.AST], scope: Scope
) -> Iterator[Packed]:
    """Yield the length until which a function joins: N of `len(block) + len(ids) < N`, and of `block[:N]`, `block[N:]`."""
    slices = [node.slice for node in nodes if isinstance(node, ast.Subscript)]
    cuts = [each for each in slices if isinstance(each, ast.Slice) and each.step is None]
    kept = {unparse(each.upper): each.upper for each in cuts if each.lower is None and each.upper}
    rest = {unparse(each.lower) for each in cuts if each.upper is None and each.lower}
    for text, bound in kept.items():
        if text in rest:
            yield Packed(found, _evaluated(reader, bound, scope), False)
            return
    for node in nodes:
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], _REACHED):
            for side, bound in ((node.left, node.comparators[0]), (node.comparators[0], node.left)):
                if _adds_lengths(side) and "len(" not in unparse(bound):
                    yield Packed(found, _evaluated(reader, bound, scope), True)
                    return


def _adds_lengths(node: ast.expr) -> bool:
    """Tell whether an expression is how long something is with something more behind it."""
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) and "len" in unparse(node)


def _evaluated(reader: ScriptReader, bound: ast.expr, scope: Scope) -> Known:
    known = reader.evaluator.evaluate(bound, scope)
    return Known(
        known.value,
        known.place if said_of(known) else Place("script", scope.path, "", bound.lineno),
    )
