"""The reference model that a script hands to a trainer, by its keyword or as the second argument."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from preflight.scripts.python.nodes import last_name, targets_of, unparse
from preflight.scripts.python.trees import nodes_of
from preflight.scripts.uncounted.reference_copies import COPIES
from preflight.values import NamedTuple

KEYWORD = "ref_model"


class Handed(NamedTuple):
    """What a trainer is given as its reference model."""

    text: str
    """The argument as it is written."""
    may_be_none: bool
    """Whether the script may give none, as beside an adapter."""
    is_copy: bool
    """Whether all that it may be is made of the model that trains: `create_reference_model(model)`."""


def handed_reference(text: str) -> Handed | None:
    """Return the reference model that a script gives to a trainer; None where it gives none.

    DPOTrainer and KTOTrainer take it second (trl/trainer/dpo_trainer.py and kto_trainer.py __init__, 0.7.11 to 1.16.0).
    """
    for model, given, ways in _handed(text):
        models = [way for way in ways if not _is_none(way)]
        if models:
            is_copy = all(_copies(way, model) for way in models)
            return Handed(unparse(given), len(models) < len(ways), is_copy)
    return None


def _handed(text: str) -> Iterator[tuple[str, ast.expr, list[ast.expr]]]:
    """Yield the model beside which a reference is given, what it is there, and all that it may be.

    Arguments may be collected first: `dict(ref_model=other)`, `{"ref_model": other}`.
    """
    nodes = nodes_of(text)
    for node in nodes:
        found: list[ast.expr] = []
        model = ""
        if isinstance(node, ast.Call):
            keywords = {each.arg: each.value for each in node.keywords}
            found += [value for name, value in keywords.items() if name == KEYWORD]
            model = unparse(keywords.get("model", [*node.args, ast.Name("")][0]))
            if last_name(node.func).endswith("Trainer"):
                found += [each for each in node.args[1:2] if not isinstance(each, ast.Starred)]
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            found += [v for k, v in pairs if isinstance(k, ast.Constant) and k.value == KEYWORD]
        for given in found:
            yield model, given, ways_of(given, nodes)


def ways_of(given: ast.expr, nodes: Sequence[ast.AST]) -> list[ast.expr]:
    """Return what an argument may be: everything that its name is set to in the file, and both ways of a choice."""
    if isinstance(given, ast.IfExp):
        return [*ways_of(given.body, nodes), *ways_of(given.orelse, nodes)]
    if not isinstance(given, ast.Name):
        return [given]
    set_to = [
        node.value
        for node in nodes
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None
        for target in targets_of(node)
        if isinstance(target, ast.Name) and target.id == given.id
    ]
    ways = [(w.body, w.orelse) if isinstance(w, ast.IfExp) else (w,) for w in set_to]
    return [each for way in ways for each in way] or [given]


def _is_none(way: ast.expr) -> bool:
    return isinstance(way, ast.Constant) and way.value is None


def _copies(way: ast.expr, model: str) -> bool:
    """Tell whether a way is a call that copies the model that trains."""
    if not isinstance(way, ast.Call) or last_name(way.func) not in COPIES:
        return False
    return [unparse(each) for each in way.args[:1]] == [model]
