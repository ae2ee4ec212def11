"""Parts of a vision-language model that a script's own statements leave as they are, in the order in which they run.

    for p in model.vision_tower.parameters():                model.requires_grad_(False)
        p.requires_grad = False                              model.multi_modal_projector.requires_grad_(True)

A statement that freezes or trains anything else, or whose turn cannot be told, makes all of them unknown.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from preflight.plan_parts import FREEZABLE, PROJECTOR, TOWER
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.nodes import last_name, walk
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import Scope
from preflight.setting import Place
from preflight.values import NamedTuple

PARTS: Mapping[str, tuple[str, ...]] = {
    "vision_tower": (TOWER,),
    "vision_model": (TOWER,),
    "multi_modal_projector": (PROJECTOR,),
    "connector": (PROJECTOR,),
    "merger": (PROJECTOR,),
    "visual": (TOWER, PROJECTOR),
}
"""Module of transformers' vision-language models -> its parts: Qwen's and GLM's `visual` ends in the merger
(models/qwen2_vl/modeling_qwen2_vl.py, models/glm4v/modeling_glm4v.py, 5.24.0). `language_model` is none: whether the
head is in it changed in 4.52."""
SETS = "requires_grad_"
INSIDE = ("model", "base_model", "visual")
"""Modules that parts hang on."""
MODEL = "model"
"""What the model that trains is called; a `ref_model` is frozen for itself, and `self` may be anybody's."""
LOADS = ("from_pretrained", "from_config")


class _Sets(NamedTuple):
    """One statement that says of parts whether they train."""

    parts: tuple[str, ...]
    trains: bool
    found: CallFound


def frozen_by_statements(reader: ScriptReader) -> dict[str, Place] | None:
    """Return part -> where it is frozen; None where a statement that freezes is not understood, or there is none."""
    loops = dict(_loops(reader))
    inside = {id(node) for loop in loops.values() for node in walk(loop)}
    understood: list[_Sets] = []
    for found in reader.calls:
        loop = loops.get(id(found.node))
        if loop is None and (found.name != SETS or id(found.node) in inside):
            continue
        told = _by_call(found) if loop is None else _by_loop(found, loop)
        if told is None or not _loads_model(reader, found.scope):
            return None
        understood.append(told)
    may_run = [each for each in reader.unsure if id(each.node) in loops or each.name == SETS]
    statements = reader.possible_statements
    if any(id(each.node) not in inside for each in may_run) or any(
        _sets(node) and id(node) not in inside for node, _ in statements
    ):
        return None
    return _in_turn(understood)


def _in_turn(understood: list[_Sets]) -> dict[str, Place] | None:
    """Return what is frozen after statements of one block, one behind the other."""
    blocks: list[Scope] = [each.found.scope for each in understood]
    if not blocks or any(block is not blocks[0] for block in blocks):
        return None
    frozen: dict[str, Place] = {}
    for parts, trains, found in sorted(understood, key=lambda each: each.found.node.lineno):
        place = Place("script", found.scope.path, found.name, found.node.lineno)
        for part in parts:
            if trains:
                frozen.pop(part, None)
            else:
                frozen.setdefault(part, place)
    # where nothing of it trains, something in front of it or behind it does, and its layers may keep all the same
    return None if len(frozen) == len(FREEZABLE) else frozen


def _loads_model(reader: ScriptReader, scope: Scope) -> bool:
    """Tell whether the block of a statement loads what it calls `model`: the parameter of a helper may be another's."""
    held = [] if MODEL not in scope.assigned else reader.evaluator.may_hold(MODEL, scope)
    calls = [
        last_name(node.func) for each in held for node in walk(each) if isinstance(node, ast.Call)
    ]
    return any(name in LOADS for name in calls)


def _loops(reader: ScriptReader) -> Iterator[tuple[int, ast.For]]:
    """Yield loops over parameters that say of them whether they train, by the call that they go over."""
    for tree in reader.trees.values():
        for node in walk(tree):
            if isinstance(node, ast.For) and isinstance(node.iter, ast.Call):
                is_of_parameters = last_name(node.iter.func) in ("parameters", "named_parameters")
                if is_of_parameters and any(_sets(each) for each in walk(node)):
                    yield id(node.iter), node


def _sets(node: ast.AST) -> bool:
    """Tell whether a node says of something whether it trains."""
    if isinstance(node, ast.Assign):
        return any(isinstance(t, ast.Attribute) and t.attr == "requires_grad" for t in node.targets)
    return isinstance(node, ast.Call) and last_name(node.func) == SETS


def _by_call(found: CallFound) -> _Sets | None:
    """Read `model.visual.requires_grad_(False)`."""
    func, given = found.node.func, found.node.args
    parts = _parts(func.value) if isinstance(func, ast.Attribute) else None
    trains = _switch(given[0]) if given else True
    is_plain = len(given) < 2 and not found.node.keywords
    return None if parts is None or trains is None or not is_plain else _Sets(parts, trains, found)


def _by_loop(found: CallFound, loop: ast.For) -> _Sets | None:
    """Read a loop whose only statement sets every parameter, or those whose name has a word in it."""
    func, body = found.node.func, loop.body
    if not isinstance(func, ast.Attribute) or loop.orelse or len(body) != 1:
        return None
    parts, (statement,) = _parts(func.value), body
    if isinstance(statement, ast.If):
        word = _word(statement.test)
        if parts != FREEZABLE or word not in PARTS or statement.orelse or len(statement.body) != 1:
            return None
        parts, (statement,) = PARTS[word], statement.body
    trains = _of_one(statement)
    return None if parts is None or trains is None else _Sets(parts, trains, found)


def _of_one(statement: ast.stmt) -> bool | None:
    """Return what `p.requires_grad = False` or `p.requires_grad_(False)` says; None of anything else."""
    if isinstance(statement, ast.Assign) and _sets(statement):
        target = statement.targets[0]
        is_one = isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name)
        return _switch(statement.value) if is_one and len(statement.targets) == 1 else None
    if isinstance(statement, ast.Expr) and _sets(statement.value):
        call = statement.value
        assert isinstance(call, ast.Call)
        return _switch(call.args[0]) if len(call.args) == 1 else True
    return None


def _parts(node: ast.expr) -> tuple[str, ...] | None:
    """Return the parts that an expression names: `model.model.visual`, or all of the `model`; None of another model's."""
    if isinstance(node, ast.Attribute) and node.attr in PARTS:
        return PARTS[node.attr] if _is_in_model(node.value) else None
    return FREEZABLE if _is_model(node) else None


def _is_in_model(node: ast.expr) -> bool:
    """Tell whether a part hangs on the model that trains, under the names that transformers and PEFT give what is in it."""
    while isinstance(node, ast.Attribute) and node.attr in INSIDE:
        node = node.value
    return _is_model(node)


def _is_model(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == MODEL


def _word(test: ast.expr) -> str:
    """Return the word of `"visual" in name`."""
    is_in = isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.In)
    left = test.left if is_in and isinstance(test, ast.Compare) else None
    return str(left.value).strip(".") if isinstance(left, ast.Constant) else ""


def _switch(node: ast.expr) -> bool | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, bool) else None
