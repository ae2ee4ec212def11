"""How long a training loop of somebody's own holds what its model returned: `del outputs` behind its backward or its step."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.losses.own_losses import runs_model
from preflight.scripts.python.nodes import last_name, unparse, walk
from preflight.scripts.uncounted.own_steps import goes_back
from preflight.values import NamedTuple

_STEPS = lazy_pattern(r"optim|scaler|engine", re.IGNORECASE)
"""Names of what steps, beside a scheduler and a progress bar."""


class Held(NamedTuple):
    """When the loop drops the outputs: a value of the plan's `keeps_outputs`."""

    keeps: bool | str
    line: int


def held_outputs(trees: Iterable[ast.Module]) -> Held | None:
    """Return when the one loop that trains drops the outputs; None where it keeps them, or nothing tells."""
    loops = [
        node
        for tree in trees
        for node in walk(tree)
        if isinstance(node, (ast.For, ast.While)) and _goes_back(node.body)
    ]
    inner = [loop for loop in loops if not any(loop is not o and o in walk(loop) for o in loops)]
    return _held_in(inner[0]) if len(inner) == 1 else None


def _held_in(loop: ast.For | ast.While) -> Held | None:
    nodes = [node for statement in loop.body for node in walk(statement)]
    forwards = [*filter(runs_model, nodes)]
    backwards = [n.lineno for n in nodes if isinstance(n, ast.Call) and _is_named(n, "backward")]
    if len(forwards) != 1 or not backwards:
        return None
    (forward,) = forwards
    taken = next((n for n in nodes if isinstance(n, ast.Assign) and forward in walk(n)), None)
    if taken is None or len(taken.targets) != 1 or not isinstance(taken.targets[0], ast.Name):
        return None
    if _is_loss_of(taken.value, forward):
        return Held(False, taken.lineno)
    name = taken.targets[0].id
    if taken.value is not forward or _is_handed_on(nodes, name):
        return None
    steps = [
        n.lineno
        for n in nodes
        if isinstance(n, ast.Call) and _is_named(n, "step") and _STEPS.search(unparse(n.func))
    ]
    drops = [line for line in _drops(loop.body, name) if line > taken.lineno]
    return _behind(min(drops), backwards, steps) if drops else None


def _behind(drop: int, backwards: Sequence[int], steps: Sequence[int]) -> Held | None:
    if drop < min(backwards):
        return Held(False, drop)
    if drop < max(backwards):
        return None
    if steps and drop < min(steps):
        return Held("backward", drop)
    return Held("step", drop) if not steps or drop > max(steps) else None


def _goes_back(body: Sequence[ast.stmt]) -> bool:
    return goes_back(body) or any(goes_back(block) for block in _blocks(body))


def _blocks(body: Sequence[ast.stmt]) -> Iterator[Sequence[ast.stmt]]:
    """Yield the blocks that run whenever a body does."""
    for statement in body:
        if isinstance(statement, (ast.With, ast.Try)):
            yield statement.body
            yield from _blocks(statement.body)


def _drops(body: Sequence[ast.stmt], name: str) -> Iterator[int]:
    """Yield the lines on which a name surely loses what it holds."""
    for block in (body, *_blocks(body)):
        for statement in block:
            if isinstance(statement, ast.Delete) or (
                isinstance(statement, ast.Assign) and unparse(statement.value) == "None"
            ):
                names = [unparse(target) for target in statement.targets]
            else:
                continue
            if name in names:
                yield statement.lineno


def _is_loss_of(node: ast.AST, forward: ast.Call) -> bool:
    """Tell whether an expression is the loss of a forward, whose other outputs nothing holds."""
    if isinstance(node, ast.Attribute):
        return node.value is forward and node.attr == "loss"
    if isinstance(node, ast.Subscript) and node.value is forward:
        return unparse(node.slice) in ("'loss'", "0")
    return False


def _is_handed_on(nodes: Sequence[ast.AST], name: str) -> bool:
    """Tell whether outputs have another holder than their name: all that is taken of them is their loss."""
    taken = {
        id(node.value)
        for node in nodes
        if (isinstance(node, ast.Attribute) and node.attr == "loss")
        or (isinstance(node, ast.Subscript) and unparse(node.slice) in ("'loss'", "0"))
    }
    return any(
        isinstance(node, ast.Name)
        and node.id == name
        and isinstance(node.ctx, ast.Load)
        and id(node) not in taken
        for node in nodes
    )


def _is_named(call: ast.Call, name: str) -> bool:
    return last_name(call.func) == name
