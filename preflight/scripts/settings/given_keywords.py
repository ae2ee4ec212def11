"""What a call is given by a keyword: its own, what stands at its place, or an entry of a dict that `**` hands on."""

from __future__ import annotations

import ast

from preflight.scripts.python.files import CallFound
from preflight.scripts.python.nodes import keyword_of, methods_of
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import Scope
from preflight.scripts.settings.behind import entries

PLACES = ("model", "args", "data_collator", "train_dataset", "eval_dataset")
"""The first parameters of ORDERED, in their order (transformers/trainer.py, 4.28.1 to 5.24.0; trl/trainer, 0.8.6 to 1.16.0)."""
ORDERED = frozenset(
    {"Trainer", "Seq2SeqTrainer", "SFTTrainer", "RewardTrainer", "ORPOTrainer", "CPOTrainer"}
)


def given_by(reader: ScriptReader, call: CallFound, name: str) -> list[tuple[ast.expr, Scope]]:
    """Return what a call may be given by a keyword, each with the names around it; several where `**` hands on a dict that
    is written in several ways."""
    own = keyword_of(call.node, name) or _at_its_place(reader, call, name)
    if own is not None:
        return [(own, call.scope)]
    mappings = [each.value for each in call.node.keywords if each.arg is None]
    return [
        each
        for node in mappings
        for each in entries(reader, node, name, call.scope, of_every_key=False)
    ]


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
