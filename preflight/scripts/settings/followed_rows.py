"""The sets of rows that a trainer is handed, and those that they are made of: behind names, columns, functions and methods."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from preflight.scripts.python.files import CallFound
from preflight.scripts.python.handed_functions import OF_ROWS
from preflight.scripts.python.nodes import last_name, walk
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.running_calls import attributes_set
from preflight.scripts.python.scope import Scope
from preflight.scripts.settings.behind import Held, behind
from preflight.scripts.settings.given_keywords import given_by

_KEEPS = frozenset(
    {"shuffle", "select", "with_format", "set_format", "remove_columns", "rename_column", "rename_columns", "select_columns",
     "train_test_split", "take", "skip", "flatten", "cast_column", "sort", "repeat"}
)  # fmt: skip
"""Methods of datasets that leave a row's length (datasets/arrow_dataset.py, 5.2)."""
_JOINS = frozenset({"concatenate_datasets", "interleave_datasets", "ConcatDataset", "ChainDataset"})
"""Functions that make one set of several, whose rows they leave (datasets/combine.py, 5.2; torch/utils/data/dataset.py, 2.13)."""
_OF_ROWS = frozenset({"from_list", "from_dict", "from_generator"})
"""Methods of datasets' classes that make a set of rows that a script makes itself."""
MOST_SETS = 24
"""Sets behind one another that are looked at."""


def handed(reader: ScriptReader, trainer: CallFound, argument: str) -> list[Held]:
    """Return what a trainer is handed by an argument, or by the attribute of its name that is set later."""
    later = [
        (value, scope, (node, scope) in reader.statements)
        for node, scope in reader.possible_statements
        for target, value, _ in attributes_set([(node, scope)])
        if target.attr == argument and reader.only_call(target.value, scope) == trainer
    ]
    is_replaced = any(is_sure for _, _, is_sure in later)
    made = [] if is_replaced else given_by(reader, trainer, argument)
    return [*made, *((value, scope) for value, scope, _ in later)]


def sets_behind(reader: ScriptReader, node: ast.expr, scope: Scope) -> list[Held]:
    """Return the sets of which one is made, as far as that leaves the length of their rows."""
    if isinstance(node, ast.Subscript):
        is_part = any(isinstance(each, ast.Slice) for each in walk(node.slice))
        held = behind(reader, node, scope)
        return held or ([] if is_part else [(node.value, scope)])  # one split of several
    if not isinstance(node, ast.Call):
        return behind(reader, node, scope)
    name = last_name(node.func)
    if name in _JOINS and node.args:
        parts = node.args[0]
        return [(each, scope) for each in getattr(parts, "elts", [parts])]
    if name in _OF_ROWS:
        return [(each, scope) for each in node.args[:1]]
    if isinstance(node.func, ast.Attribute) and node.func.attr in {*_KEEPS, *OF_ROWS}:
        return [(node.func.value, scope)]
    return behind(reader, node, scope)


def all_sets_behind(reader: ScriptReader, trainer: CallFound, argument: str) -> Iterator[Held]:
    """Yield the sets of rows that a trainer is handed by an argument, and all those that they are made of."""
    waiting, seen = handed(reader, trainer, argument), set[int]()
    for node, scope in waiting:
        if id(node) not in seen and len(seen) < MOST_SETS:
            seen.add(id(node))
            yield node, scope
            waiting += sets_behind(reader, node, scope)
