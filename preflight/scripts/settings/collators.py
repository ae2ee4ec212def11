"""The collator that a script gives its trainer, where it is one of the script's own: it may cut no row, or make more of them."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Container, Iterator
from dataclasses import replace

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.nodes import (
    argument_of,
    keyword_of,
    last_name,
    unparse,
    walk,
)
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.running_calls import attributes_set
from preflight.scripts.python.scope import UNKNOWN, Known, Scope
from preflight.scripts.settings.behind import Held, behind
from preflight.scripts.settings.given_keywords import given_by
from preflight.scripts.settings.rows_of_collators import is_several, more_of_rows
from preflight.setting import Place
from preflight.units import ceil_div

CUTS = lazy_pattern(
    r"truncate|truncation\s*=(?!\s*(?:False|None))|\[[^\[\]:]{0,80}:[^\[\]]{0,80}(?:max|len|cut|limit)\w{0,40}\]",
    re.IGNORECASE,
)


def uncut_collator(reader: ScriptReader) -> Place | None:
    """Return where a trainer is given a collator of the script's own in which nothing cuts; None where there is none.

    What a library's collator is given, and one that cannot be found here, is not spoken of.
    """
    for place, made in _own_collators(reader):
        if not any(CUTS.search(unparse(each)) for each in made):
            return place
    return None


def grown_collator(reader: ScriptReader) -> Place | None:
    """Return where a collator of the script's own, a trainer's or a loader's, makes several rows of one, which the batch
    size does not count."""
    handed = (*_own_collators(reader), *_own_collators(reader, "collate_fn"), *_handed_on(reader))
    for place, made in handed:
        grown = [line for each in made for line in _several_of_one(each)]
        if grown:
            return replace(place, line=min(grown))
    return None


def _handed_on(reader: ScriptReader) -> Iterator[tuple[Place, list[ast.AST]]]:
    """Yield collators that a trainer is given behind its back: `trainer.data_collator = collate`, and a keyword of that name
    of a function that makes the trainer, or of a constructor that hands it on."""
    given = [(value, scope) for target, value, scope in attributes_set(reader.possible_statements) if target.attr == "data_collator"]  # fmt: skip
    for found in reader.possible_calls:
        value = keyword_of(found.node, "data_collator")
        if value is not None and not reader.makes_trainer(found):
            given.append((value, found.scope))
    for value, scope in given:
        made = list(_makers(reader, value, scope, 0))
        if made:
            yield Place("script", scope.path, "data_collator", value.lineno), made


_MAKES_ROWS = frozenset({"zeros", "ones", "full", "empty", "new_zeros", "new_ones", "new_full", "new_empty"})  # fmt: skip
"""Functions and methods of torch and NumPy that make a tensor of sizes that they are given."""
_TOKENS = lazy_pattern(r"ids|mask|token|input|padded|batch", re.IGNORECASE)
"""What a tensor of tokens is called; one of labels may be of classes, and one of features of what a picture has."""
_COUNT = lazy_pattern(r"^len\(|batch")
"""What a number of rows says."""
_OF_ROWS = lazy_pattern(r"\bmax\(|\blen\(|\.size\(|\.shape\b")
"""What a width says that is taken from the rows themselves."""


def filled_rows(reader: ScriptReader, cut: int) -> Iterator[Known]:
    """Yield the lengths to which the script's own collators fill up rows that are cut at `cut` tokens:
    `torch.full((len(rows), 4096), pad)`, and widths that are rounded up, `(width + 63) // 64 * 64`.

    What may collate and is not seen to be handed to a trainer or a loader leaves the length unknown where it fills further.
    """
    own = (*_own_collators(reader), *_own_collators(reader, "collate_fn"))
    inside = {id(node) for _, made in own for each in made for node in walk(each)}
    of_tokens = {id(node) for _, made in own for each in made for node in _made_for_tokens(each)}
    perhaps = {id(node) for each in _may_collate(reader) for node in _made_for_tokens(each)}
    for found in reader.possible_calls if of_tokens or perhaps else ():
        is_handed = id(found.node) in of_tokens
        if found.name not in _MAKES_ROWS or not (is_handed or id(found.node) in perhaps):
            continue
        args = found.node.args
        sizes = args[0].elts if args and isinstance(args[0], (ast.Tuple, ast.List)) else args
        if len(sizes) > 1 and _says(_COUNT, sizes[0], found.scope):
            known = reader.evaluator.evaluate(sizes[1], found.scope)
            is_said = isinstance(known.value, int)
            if is_handed and (is_said or not _says(_OF_ROWS, sizes[1], found.scope)):
                yield replace(known, place=reader.place(found))
            elif not is_handed and isinstance(known.value, int) and known.value > cut:
                yield Known(UNKNOWN, reader.place(found))
    for statement, scope in reader.possible_statements if inside else ():
        for node in walk(statement.value) if id(statement) in inside else ():
            if isinstance(node, ast.BinOp) and _rounds_up(node):
                multiple = reader.evaluator.value(node.right, scope)
                filled: object = UNKNOWN
                if isinstance(multiple, int) and multiple > 0:
                    filled = ceil_div(cut, multiple) * multiple
                yield Known(filled, Place("script", scope.path, "data_collator", node.lineno))


def _may_collate(reader: ScriptReader) -> Iterator[ast.FunctionDef]:
    """Yield the functions of a script that are called collators, and what runs where an object of its classes is called."""
    for name, held in reader.functions.items():
        if name == "__call__" or "collat" in name.lower():
            yield from (function for function, _ in held)


def _made_for_tokens(made: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of what a function sets names and columns of tokens to: `input_ids = ...`, `{"attention_mask": ...}`."""
    for node in walk(made):
        pairs: list[tuple[ast.expr | None, ast.expr]] = []
        if isinstance(node, ast.Assign):
            pairs = [(node.targets[0], node.value)]
        elif isinstance(node, ast.Dict):
            pairs = list(zip(node.keys, node.values, strict=True))
        for name, value in pairs:
            if name is not None and _TOKENS.search(unparse(name)):
                yield from walk(value)


def _rounds_up(node: ast.BinOp) -> bool:
    """Tell whether a product rounds a width up: `(width + 63) // 64 * 64`, `math.ceil(width / 64) * 64`."""
    by = node.left
    if isinstance(by, ast.Call) and last_name(by.func) == "ceil" and by.args:
        by = by.args[0]
    if not isinstance(by, ast.BinOp) or not isinstance(by.op, (ast.FloorDiv, ast.Div)):
        return False
    return isinstance(node.op, ast.Mult) and unparse(by.right) == unparse(node.right)


def _says(pattern: re.Pattern[str], size: ast.expr, scope: Scope) -> bool:
    """Tell whether a size, or what its name is given, says something."""
    given = scope.assigned.get(size.id, ()) if isinstance(size, ast.Name) else ()
    return any(pattern.search(unparse(each)) for each in (size, *given))


def _own_collators(
    reader: ScriptReader, argument: str = "data_collator"
) -> Iterator[tuple[Place, list[ast.AST]]]:
    """Yield where trainers are given collators, or loaders are, with the functions and classes of the script that they are
    made of."""
    for found in reader.possible_calls:
        if not (argument == "collate_fn" or reader.makes_trainer(found)):
            continue
        for node, scope in given_by(reader, found, argument):
            made = list(_makers(reader, node, scope, 0))
            if made:
                yield Place("script", scope.path, argument, node.lineno), made


def _several_of_one(made: ast.AST) -> Iterator[int]:
    """Yield the lines where rows are repeated, `[row for row in rows for _ in range(4)]`, or put twice into one list."""
    yield from more_of_rows(made)
    given = {each.arg for each in walk(made) if isinstance(each, ast.arg)}
    of_rows = {
        last_name(target)
        for node in walk(made)
        if isinstance(node, ast.Assign) and _is_of_rows(node.value, given)
        for target in node.targets
    }
    for node in walk(made):
        if _puts_behind(node, given, of_rows):
            yield node.lineno  # type: ignore[attr-defined]
        if isinstance(node, (ast.ListComp, ast.GeneratorExp)):
            if any(is_several(each.iter) for each in node.generators[1:]):
                yield node.lineno
        elif isinstance(node, ast.For):
            lists: Counter[str] = Counter()
            for statement in node.body:
                grown, times = _grown(statement)
                lists[grown] += times
            if any(times > 1 for times in lists.values()):
                yield node.lineno


def _puts_behind(node: ast.AST, given: Container[str], lists: Container[str]) -> bool:
    """Tell whether an expression puts one list of rows behind another, or one tensor: `[row["chosen"] for row in rows] +
    [row["rejected"] for row in rows]`, `torch.cat([chosen["input_ids"], rejected["input_ids"]])`."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return all(
            _is_of_rows(each, given) or (isinstance(each, ast.Name) and each.id in lists)
            for each in (node.left, node.right)
        )
    if not isinstance(node, ast.Call) or last_name(node.func) not in _JOINS or not node.args:
        return False
    parts, along = node.args[0], argument_of(node, 1, "dim")
    is_by_rows = along is None or (isinstance(along, ast.Constant) and along.value == 0)
    is_two = isinstance(parts, (ast.List, ast.Tuple)) and len(parts.elts) > 1
    return is_by_rows and is_two and all(isinstance(each, ast.Subscript) for each in parts.elts)  # type: ignore[attr-defined]


def _is_of_rows(node: ast.expr, given: Container[str]) -> bool:
    """Tell whether an expression is a list of what a function is given, one by one."""
    source = node.generators[0].iter if isinstance(node, ast.ListComp) else None
    return isinstance(source, ast.Name) and source.id in given


_JOINS = frozenset({"cat", "concat", "concatenate", "vstack"})
"""Functions of torch that put one tensor's rows behind another's, along the dimension 0 where none is said (torch 2.13)."""


def _grown(statement: ast.stmt) -> tuple[str, int]:
    """Return the list that a statement makes longer, and by how many rows: `rows.append(row)`, `rows += [one, other]`."""
    if isinstance(statement, ast.AugAssign) and isinstance(statement.op, ast.Add):
        return unparse(statement.target), _rows_in(statement.value)
    call = statement.value if isinstance(statement, ast.Expr) else None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.args:
        if call.func.attr == "append":
            return unparse(call.func.value), 1
        if call.func.attr == "extend":
            return unparse(call.func.value), _rows_in(call.args[0])
    return "", 0


def _rows_in(node: ast.expr) -> int:
    """Return how many rows a list is written with; numbers of tokens, `[2, tokenizer.eos_token_id]`, are none."""
    elements = node.elts if isinstance(node, (ast.List, ast.Tuple)) else []
    return sum(isinstance(each, (ast.Dict, ast.Subscript, ast.Call, ast.Name)) for each in elements)


def _makers(
    reader: ScriptReader, node: ast.expr, scope: Scope | None, depth: int
) -> Iterator[ast.AST]:
    """Yield the functions and classes of the script that an expression names, through one name more."""
    for inner in walk(node):
        if isinstance(inner, ast.Lambda):
            yield inner
        if isinstance(inner, ast.Subscript) and scope is not None and depth < 2:
            for entry, around in _entries(reader, inner, scope):
                yield from _makers(reader, entry, around, depth + 1)
        if not isinstance(inner, ast.Name):
            continue
        name = reader.renamed.get(inner.id, inner.id)
        yield from (function for function, _ in reader.functions.get(name, ()))
        if name in reader.classes:
            yield reader.classes[name][0]
        here = scope
        while here is not None and depth < 2:
            for value in here.assigned.get(inner.id, ()):
                target = value.func if isinstance(value, ast.Call) else value
                if last_name(target) or isinstance(target, ast.Lambda):
                    yield from _makers(reader, target, here, depth + 1)
            here = here.outer


def _entries(reader: ScriptReader, node: ast.Subscript, scope: Scope) -> list[Held]:
    """Return what an expression takes of a dict: `ways["fill"]` one, `ways[args.way]` any."""
    if isinstance(node.slice, ast.Constant):
        return behind(reader, node, scope)
    held = behind(reader, node.value, scope)
    return [(v, around) for made, around in held if isinstance(made, ast.Dict) for v in made.values]
