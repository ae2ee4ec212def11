"""What a call is given by a keyword: its own, what stands at its place, or an entry of a dict that `**` hands on."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from preflight.scripts.python.assignments import returned_by
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.nodes import branches_of, keyword_of, last_name, methods_of
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import Scope

PLACES = ("model", "args", "data_collator", "train_dataset", "eval_dataset")
"""The first parameters of ORDERED, in their order (transformers/trainer.py, 4.28.1 to 5.24.0; trl/trainer, 0.8.6 to 1.16.0)."""
ORDERED = frozenset(
    {"Trainer", "Seq2SeqTrainer", "SFTTrainer", "RewardTrainer", "ORPOTrainer", "CPOTrainer"}
)
_MOST_DEEP = 6
"""Names, functions and dicts in dicts behind which an entry is looked for."""


def given_by(reader: ScriptReader, call: CallFound, name: str) -> list[tuple[ast.expr, Scope]]:
    """Return what a call may be given by a keyword, each with the names around it; several where `**` hands on a dict that
    is written in several ways."""
    own = keyword_of(call.node, name) or _at_its_place(reader, call, name)
    if own is not None:
        return [(own, call.scope)]
    mappings = [each.value for each in call.node.keywords if each.arg is None]
    return [each for node in mappings for each in _entries(reader, node, call.scope, name, 0)]


def _at_its_place(reader: ScriptReader, call: CallFound, name: str) -> ast.expr | None:
    """Return what a trainer is given by the place of a parameter, `Trainer(model, arguments, collate)`; None of a class of the
    script's own with a constructor of its own."""
    places = call.node.args
    at = PLACES.index(name) if name in PLACES else len(places)
    if at >= len(places) or any(isinstance(each, ast.Starred) for each in places[: at + 1]):
        return None
    held = reader.class_of(call.name, call.scope.path)
    makes = held is not None and "__init__" in methods_of(held[0])
    return places[at] if reader.kinds_of(call) & ORDERED and not makes else None


def _entries(
    reader: ScriptReader, node: ast.expr, scope: Scope, name: str, depth: int
) -> Iterator[tuple[ast.expr, Scope]]:
    """Yield what an expression holds under a key, where it is a dict that the script writes."""
    parts: list[tuple[ast.expr, Scope]] = []
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == name:
                yield value, scope
        parts = [(v, scope) for k, v in zip(node.keys, node.values, strict=True) if k is None]
    elif isinstance(node, ast.IfExp):
        parts = [(each, scope) for each in branches_of(node)]
    elif isinstance(node, ast.Name):
        holder = scope.holder(node.id)
        if holder is None:
            return
        yield from ((each, holder) for each in holder.changed.get(node.id, {}).get((name,), ()))
        parts = [(each, holder) for each in holder.assigned.get(node.id, ())]
        parts += [(each, holder) for each in holder.grown.get(node.id, ())]
    elif isinstance(node, ast.Call) and last_name(node.func) in ("dict", "update"):
        yield from ((each.value, scope) for each in node.keywords if each.arg == name)
        parts = [(each, scope) for each in node.args]
        parts += [(each.value, scope) for each in node.keywords if each.arg is None]
    elif isinstance(node, ast.Call):
        for function, inner in reader.functions.get(last_name(node.func), ()):
            parts += [(value, inner) for value in returned_by(function)]
    for part, around in parts if depth < _MOST_DEEP else ():
        yield from _entries(reader, part, around, name, depth + 1)
