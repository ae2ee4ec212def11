"""What a compute_loss of a script's own asks of a model that scores: the sequences that one row of the data becomes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.losses.own_losses import is_two, takes_pairs
from preflight.scripts.python.nodes import last_name, walk
from preflight.scripts.python.trees import nodes_of
from preflight.trainers.kind import PROSE


def objective_of_loss(text: str) -> str | None:
    """Return what a script's one compute_loss does with scores: one, pairs or in_turn; None where that is not read.

    Two calls of the model score chosen and rejected one after the other; one call scores both where its result is
    taken by twos (`rewards[0::2]`, `arange(0, n, 2)`) or in halves.
    """
    losses = [
        node
        for node in nodes_of(text)
        if isinstance(node, ast.FunctionDef) and node.name == "compute_loss"
    ]
    if len(losses) != 1 or len(losses[0].args.args) < 3:
        return None
    function = losses[0]
    model = function.args.args[1].arg
    calls = list(_calls_of(function, model))
    unsure = (ast.For, ast.While, ast.If, ast.Try)
    if any(
        each in calls for node in walk(function) if isinstance(node, unsure) for each in walk(node)
    ):
        return None
    if any(_calls_another(node, model) for node in walk(function)):
        return None
    if len(calls) == 2:
        return "in_turn"
    if len(calls) != 1:
        return None
    if any(takes_pairs(node) for node in walk(function)):
        return "pairs"
    if any(_may_take_pairs(node) for node in walk(function)) or _PAIRS.search(PROSE.sub("", text)):
        return None
    return "one"


def is_plain(text: str) -> bool:
    """Tell whether a loop of a script's own trains with the loss that its model returns, of one row at a time."""
    code = PROSE.sub("", text)
    of_model = re.search(r"\bloss\s*=\s*\w+(?:\.loss\b|\[[\"']loss[\"']\])", code)
    return of_model is not None and not _PAIRS.search(code)


_PAIRS = lazy_pattern(r"(?i)chosen|reject|prefer|\bpairs?\b|_k\b")
"""Words of a script that may put pairs of answers into one batch, whatever its loss makes of them."""


def _calls_of(function: ast.FunctionDef, model: str) -> Iterator[ast.Call]:
    for node in walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == model:
            yield node


def _calls_another(node: ast.AST, model: str) -> bool:
    """Tell whether another model than the one that trains is called: a teacher, a reference, a part of its own."""
    if not isinstance(node, ast.Call):
        return False
    name = last_name(node.func)
    return (
        name != model and re.search(r"model$|encoder$|backbone$|critic$|teacher$", name) is not None
    )


def _may_take_pairs(node: ast.AST) -> bool:
    """Tell whether a call may take rows apart in ways that are not read."""
    if not isinstance(node, ast.Call):
        return False
    name = last_name(node.func)
    is_shape = name in ("view", "reshape", "unflatten") and any(map(is_two, node.args))
    return is_shape or name in ("split", "tensor_split", "unbind", "rearrange", "chunk")
