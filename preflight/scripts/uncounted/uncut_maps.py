"""Rows that nothing cuts, beside others that are cut: what a trainer is handed comes of `rows.map(f)`, and f gives back what a
tokenizer made of a text of any length.

A length at which another set is cut says nothing of these: that of evaluation of the rows of training, or the other way round.
"""

from __future__ import annotations

import ast

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.given_keywords import given_by
from preflight.scripts.python.handed_functions import OF_ROWS, function_of_rows
from preflight.scripts.python.nodes import last_name, unparse, walk
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.running_calls import attributes_set
from preflight.scripts.python.scope import Scope
from preflight.scripts.settings.answer_lengths import OF_CHATS, counted_calls, tokenizing
from preflight.scripts.uncounted.sign_words import CUTS
from preflight.setting import Place

_TRAINERS = frozenset({"Trainer", "Seq2SeqTrainer"})
"""Classes of transformers that train on rows as they are handed; TRL's cut them."""
_KEEPS = frozenset(
    {"shuffle", "select", "with_format", "remove_columns", "rename_column", "rename_columns", "select_columns",
     "train_test_split", "take", "skip", "flatten", "cast_column", "sort", "repeat"}
)  # fmt: skip
"""Methods of datasets that leave a row's length (datasets/arrow_dataset.py, 5.2)."""
_OF_LENGTHS = lazy_pattern(r"\blen\(|length|size")
_MOST_STEPS = 12
_MOST_FUNCTIONS = 4


def uncut_rows(reader: ScriptReader, argument: str) -> Place | None:
    """Return where the rows that trainers of transformers are handed by an argument are made, if surely nothing cuts them."""
    counted = counted_calls(reader)
    for found in reader.calls:
        if found.name not in _TRAINERS or _may_cut(reader, found):
            continue
        handed = given_by(reader, found, argument)
        places = [_made_whole(reader, node, scope, counted) for node, scope in handed]
        if places and None not in places:
            return places[0]
    return None


def _may_cut(reader: ScriptReader, trainer: CallFound) -> bool:
    """Tell whether the collator of a trainer may cut: it is the script's own."""
    collators = given_by(reader, trainer, "data_collator")
    return any(_is_own(reader, collator, scope) for collator, scope in collators)


def _is_own(reader: ScriptReader, collator: ast.expr, scope: Scope) -> bool:
    for _ in range(_MOST_STEPS):
        if not isinstance(collator, (ast.Name, ast.Attribute)):
            break
        made = _set_to(reader, collator, scope)
        if made is None:
            return last_name(collator) != "default_data_collator"
        collator = made
    if isinstance(collator, ast.Constant):
        return False  # None
    is_librarys = isinstance(collator, ast.Call) and last_name(collator.func).startswith(
        "DataCollator"
    )
    return not is_librarys or last_name(collator.func) in reader.classes  # type: ignore[attr-defined]


def _made_whole(
    reader: ScriptReader,
    node: ast.expr,
    scope: Scope,
    counted: frozenset[ast.Call],
    depth: int = 0,
) -> Place | None:
    """Return where a set of rows is tokenized last, behind names, columns and methods, if that cuts no row and nothing after
    it may."""
    for _ in range(_MOST_STEPS):
        if isinstance(node, (ast.Name, ast.Attribute)):
            behind = _set_to(reader, node, scope)
        elif isinstance(node, ast.Subscript):
            is_column = not any(isinstance(each, ast.Slice) for each in walk(node.slice))
            behind = node.value if is_column else None
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            return _given_whole(reader, node.func.id, counted, depth)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in OF_ROWS:
                function = function_of_rows(node)
                makes = None if function is None else _makes_rows(reader, function, counted)
                if makes is not False:
                    return Place("script", scope.path, "", node.lineno) if makes else None
            elif node.func.attr not in _KEEPS:
                return None
            behind = node.func.value
        else:
            return None
        if behind is None:
            return None
        node = behind
    return None


def _given_whole(
    reader: ScriptReader, name: str, counted: frozenset[ast.Call], depth: int
) -> Place | None:
    """Return where the one function of a name tokenizes the rows that it gives back, if every way out of it gives such."""
    held = reader.functions.get(name, ())
    if len(held) != 1 or depth > _MOST_FUNCTIONS:
        return None
    function, inner = held[0]
    given_back = [each.value for each in walk(function) if isinstance(each, ast.Return)]
    places = [
        None if value is None else _made_whole(reader, value, inner, counted, depth + 1)
        for value in given_back
    ]
    return places[0] if places and None not in places else None


def _makes_rows(
    reader: ScriptReader, function: ast.expr, counted: frozenset[ast.Call]
) -> bool | None:
    """Tell whether a function surely makes rows that it does not cut; False where it leaves their length, None where it may cut."""
    held = [function] if isinstance(function, ast.Lambda) else _functions(reader, function)
    if len(held) != 1:
        return None
    nodes = list(walk(held[0]))
    calls = [each for each in nodes if isinstance(each, ast.Call)]
    tokenizes = [
        each
        for each in calls
        if last_name(each.func) in tokenizing(reader) or last_name(each.func) == OF_CHATS
    ]
    slices = any(isinstance(each, ast.Slice) for each in nodes)
    text = unparse(held[0])
    if slices or CUTS.search(text) or any(k.arg is None for each in calls for k in each.keywords):
        return None
    if any(last_name(each.func) in reader.functions for each in calls):
        return None
    if not tokenizes:
        return None if _OF_LENGTHS.search(text) else False
    return not all(each in counted for each in tokenizes) and not any(
        unparse(k.value) == "False"
        for each in tokenizes
        for k in each.keywords
        if k.arg == "tokenize"
    )


def _functions(reader: ScriptReader, function: ast.expr) -> list[ast.AST]:
    if not isinstance(function, (ast.Name, ast.Attribute)):
        return []
    return [node for node, _ in reader.functions.get(last_name(function), ())]


def _set_to(reader: ScriptReader, node: ast.Name | ast.Attribute, scope: Scope) -> ast.expr | None:
    """Return what alone a name may be set to, or the one line that sets an attribute; None where that is not sure."""
    if isinstance(node, ast.Name):
        only = reader.evaluator.only_node(node, scope)
        return only[0] if only is not None and only[1] is scope else None
    found = [
        value
        for target, value, where in attributes_set(reader.possible_statements)
        if where.path == scope.path and unparse(target) == unparse(node)
    ]
    return found[0] if len(found) == 1 else None
