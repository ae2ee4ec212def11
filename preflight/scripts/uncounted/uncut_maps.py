"""Rows that nothing cuts, beside others that are cut: what a trainer is handed comes of `rows.map(f)`, and f gives back what a
tokenizer made of a text of any length.

A length at which another set is cut says nothing of these: that of evaluation of the rows of training, or the other way round.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

from preflight.launch_facts import Uncounted
from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.handed_functions import OF_ROWS, function_of_rows
from preflight.scripts.python.nodes import argument_of, last_name, methods_of, unparse, walk
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import Scope
from preflight.scripts.settings.answer_lengths import OF_CHATS, counted_calls, tokenizing
from preflight.scripts.settings.behind import behind, functions_of
from preflight.scripts.settings.followed_rows import MOST_SETS, handed, sets_behind
from preflight.scripts.settings.given_keywords import given_by
from preflight.scripts.settings.script_settings import ScriptSettings
from preflight.scripts.uncounted.sign_words import CUTS, MAKES_ROWS
from preflight.setting import Place
from preflight.unpriced_names import UNCUT_EVALUATION

_TRAINERS = frozenset({"Trainer", "Seq2SeqTrainer"})
"""Classes of transformers that train on rows as they are handed; TRL's cut them."""
_LOADS = frozenset({"load_dataset", "load_from_disk"})
"""Functions of datasets that give the rows of files as they lie there (datasets/load.py, 5.2)."""
_FILL_UP = frozenset(
    {"DataCollatorForLanguageModeling", "DataCollatorWithPadding", "DataCollatorForSeq2Seq", "DataCollatorWithFlattening",
     "DefaultDataCollator"}
)  # fmt: skip
"""Collators of transformers for rows of tokens, none of which cuts (data/data_collator.py, 5.24)."""
_OF_LENGTHS = lazy_pattern(r"\blen\(|length|size")
_MAKES_BATCHES = lazy_pattern(
    f"{CUTS.pattern}|{MAKES_ROWS.pattern}|collat|tokeniz|dataloader", re.IGNORECASE
)


def read_uncut_rows(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Record where rows of training are made that nothing cuts, and name those of an evaluation."""
    made = uncut_rows(reader, "train_dataset")
    if made is not None:
        settings.seen["uncut_rows"] = made
    evaluated = uncut_rows(reader, "eval_dataset")
    if evaluated is not None:
        settings.uncounted[UNCUT_EVALUATION] = Uncounted(evaluated, "more")


def uncut_rows(reader: ScriptReader, argument: str) -> Place | None:
    """Return where rows that a trainer of transformers may be handed by an argument are made, if surely nothing cuts them."""
    counted = counted_calls(reader)
    for found in reader.calls:
        if not _trains(reader, found) or _may_cut(reader, found):
            continue
        for node, scope in handed(reader, found, argument):
            place = _made_whole(reader, node, scope, counted, _takes_as_loaded(reader, found))
            if place is not None:
                return place
    return None


def uncut_loaders(reader: ScriptReader, loaders: Iterable[CallFound]) -> Place | None:
    """Return where rows that a loop's loaders may be given are made, if surely nothing cuts them."""
    counted = counted_calls(reader)
    for found in loaders:
        rows = argument_of(found.node, 0, "dataset")
        collators = given_by(reader, found, "collate_fn")
        if rows is None or any(_is_own(reader, each, scope) for each, scope in collators):
            continue
        place = _made_whole(reader, rows, found.scope, counted)
        if place is not None:
            return place
    return None


def _trains(reader: ScriptReader, found: CallFound) -> bool:
    """Tell whether a call makes a trainer of transformers, or one of the script's own that stands on one."""
    line = reader.line_of(found)
    names = [reader.classes.base_name(cls, base) for cls in line for base in cls.bases]
    return bool(_TRAINERS & {found.name, *names})


def _may_cut(reader: ScriptReader, trainer: CallFound) -> bool:
    """Tell whether the collator of a trainer may cut: it is the script's own."""
    collators = given_by(reader, trainer, "data_collator")
    return any(_is_own(reader, collator, scope) for collator, scope in collators)


def _takes_as_loaded(reader: ScriptReader, trainer: CallFound) -> bool:
    """Tell whether rows reach a trainer's model as they are: a class of the script's own says nothing of them, and a collator
    of transformers only fills them up."""
    collators = [node for node, _ in given_by(reader, trainer, "data_collator")]
    named = {last_name(each.func) for each in collators if isinstance(each, ast.Call)}
    methods = [each for cls in reader.line_of(trainer) for each in methods_of(cls).values()]
    beside = [node for each in methods if each.name != "compute_loss" for node in walk(each)]
    makes = any(_MAKES_BATCHES.search(unparse(each)) for each in methods)
    return named <= _FILL_UP and not makes and not any(isinstance(n, ast.Slice) for n in beside)


def _is_own(reader: ScriptReader, collator: ast.expr, scope: Scope) -> bool:
    waiting = [(collator, scope)]
    for node, around in waiting:
        if isinstance(node, ast.Constant):
            continue  # None
        if isinstance(node, (ast.Name, ast.Attribute, ast.IfExp)) and len(waiting) < MOST_SETS:
            before = behind(reader, node, around)
            waiting += before
            if not before and last_name(node) != "default_data_collator":
                return True
        elif (
            not isinstance(node, ast.Call)
            or not last_name(node.func).startswith("DataCollator")
            or last_name(node.func) in reader.classes
        ):
            return True
    return False


def _made_whole(
    reader: ScriptReader,
    node: ast.expr,
    scope: Scope,
    counted: frozenset[ast.Call],
    as_loaded: bool = False,
) -> Place | None:
    """Return where a set of rows may be tokenized last, behind names, columns and methods, if that cuts no row and nothing
    after it may; with `as_loaded`, where rows may be loaded that nothing makes at all."""
    waiting, seen, called = [(node, scope)], set[int](), False
    for each, around in waiting:
        if id(each) in seen or len(seen) > MOST_SETS:
            continue
        seen.add(id(each))
        loads = last_name(each.func) if isinstance(each, ast.Call) else ""
        if as_loaded and not called and loads in _LOADS and loads not in reader.functions:
            return Place("script", around.path, loads, each.lineno)
        made = _rows_made_by(reader, each, around)
        if made is not None:
            makes = _makes_rows(reader, made, counted)
            if makes:
                return Place("script", around.path, "", each.lineno)
            if makes is None or not isinstance(each, ast.Call):
                continue
            inside = [part for held in _held(reader, made) for part in walk(held)]
            called = called or any(isinstance(part, ast.Call) for part in inside)
        waiting += sets_behind(reader, each, around)
    return None


def _rows_made_by(reader: ScriptReader, node: ast.expr, scope: Scope) -> ast.AST | None:
    """Return what makes the rows of a set: the function that `map` is given, a comprehension's row, a dataset's own class."""
    if isinstance(node, ast.ListComp):
        is_called = isinstance(node.elt, ast.Call) and isinstance(node.elt.func, ast.Name)
        held = functions_of(reader, node.elt, scope) if is_called else []  # type: ignore[arg-type]
        return held[0][0] if held else node.elt
    if not isinstance(node, ast.Call):
        return None
    if isinstance(node.func, ast.Attribute) and node.func.attr in OF_ROWS:
        return function_of_rows(node)
    if isinstance(node.func, ast.Attribute) and node.func.attr == "from_generator":
        return argument_of(node, 0, "generator")
    held_class = reader.class_of(last_name(node.func), scope.path)
    return None if held_class is None else held_class[0]


def _makes_rows(
    reader: ScriptReader, function: ast.AST, counted: frozenset[ast.Call]
) -> bool | None:
    """Tell whether a function surely makes rows that it does not cut; False where it leaves their length, None where it may cut."""
    held = _held(reader, function)
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
    called = {last_name(each.func) for each in calls}
    if any(name in reader.functions and not name.startswith("__") for name in called):
        return None
    if not tokenizes:
        return None if _OF_LENGTHS.search(text) else False
    return not all(each in counted for each in tokenizes) and not any(
        unparse(k.value) == "False"
        for each in tokenizes
        for k in each.keywords
        if k.arg == "tokenize"
    )


def _held(reader: ScriptReader, function: ast.AST) -> list[ast.AST]:
    """Return the functions of the script that one which makes rows may mean: itself, or those of its name."""
    if isinstance(function, (ast.Name, ast.Attribute)):
        return [node for node, _ in reader.functions.get(last_name(function), ())]
    return [function]
