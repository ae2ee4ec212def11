"""What runs between the steps of a script's training, on a card that holds the states: generation, and forward passes of
callbacks."""

from __future__ import annotations

import ast
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import TypeGuard

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.losses.own_losses import MODEL, runs_model
from preflight.scripts.python.nodes import (
    children,
    last_name,
    methods_of,
    parameters_of,
    unparse,
    walk,
)
from preflight.scripts.python.without_graph import with_graph
from preflight.unpriced_names import (
    FORWARD_BESIDE,
    GENERATES,
    GENERATES_BESIDE,
    GENERATES_TO_EVALUATE,
    GRAPH_TO_EVALUATE,
)

_BESIDE_STEPS = lazy_pattern(
    r"^(?:on_\w+|prediction_step|evaluation_step|validation_step|evaluate)$"
)
"""Methods of a callback or a trainer that run between steps, on a card that holds the states."""


def generates_beside(
    nodes: Sequence[ast.AST],
    steps: Container[int],
    helpers: Container[str],
    asking: Container[str],
) -> Iterator[tuple[str, int]]:
    """Yield where a model generates between steps, in a callback, a trainer's evaluation or a loop that is no step, and what
    callbacks ask it; `helpers` are functions in which one generates, `asking` those that ask one."""
    of_trainers = {id(each) for cls in _trainers(nodes) for each in methods_of(cls).values()}
    for node in nodes:
        if isinstance(node, ast.FunctionDef) and _BESIDE_STEPS.match(node.name):
            evaluates = id(node) in of_trainers and not node.name.startswith("on_")
            name = GENERATES_TO_EVALUATE if evaluates else GENERATES_BESIDE
            yield from ((name, line) for _, line in generates(node.body, helpers))
            yield from ((FORWARD_BESIDE, line) for line in _forwards_of_callback(node, asking))
            if evaluates:
                yield from ((GRAPH_TO_EVALUATE, line) for line in _with_graph(node))
        elif isinstance(node, (ast.For, ast.While)) and id(node) not in steps:
            calls = (each for each in own_nodes(node.body) if isinstance(each, ast.Call))
            made = (each for each in calls if _is_of_model(each) or last_name(each.func) in helpers)
            yield from ((GENERATES_BESIDE, call.lineno) for call in made)


def generates_of_trainers(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, int]]:
    """Yield where a trainer of a script's own generates in a method that every step runs, or in one that such a method
    calls, and where what makes its rows or logs asks a model."""
    for cls in _trainers(nodes):
        methods = methods_of(cls)
        for name in _called_by(_OF_EVERY_STEP & {*methods}, methods):
            made = filter(_is_of_model, walk(methods[name]))
            yield from ((GENERATES, call.lineno) for call in made)
        for name in _called_by(_BESIDE_LOSS & {*methods}, methods):
            asked = filter(runs_model, walk(methods[name]))
            yield from ((FORWARD_BESIDE, call.lineno) for call in asked)


def _trainers(nodes: Iterable[ast.AST]) -> Iterator[ast.ClassDef]:
    for node in nodes:
        bases = node.bases if isinstance(node, ast.ClassDef) else ()
        if isinstance(node, ast.ClassDef) and any(last_name(b).endswith("Trainer") for b in bases):
            yield node


def _called_by(names: Iterable[str], methods: Mapping[str, ast.FunctionDef]) -> list[str]:
    """Return some methods of a class, and those of it that they call, but for what evaluates."""
    found = [*names]
    for name in found:
        asked = (node.func for node in walk(methods[name]) if isinstance(node, ast.Call))
        below = {last_name(func) for func in asked if unparse(func) == f"self.{last_name(func)}"}
        below = {each for each in below if not _BESIDE_STEPS.match(each)}
        found += sorted(below & {*methods} - {*found})
    return found


_BESIDE_LOSS = frozenset({"log", "_prepare_inputs", "_maybe_log_save_evaluate"})
_OF_EVERY_STEP = _BESIDE_LOSS | {"training_step", "compute_loss", "_compute_loss"}
"""Methods that Trainer runs in every step or between two of them (transformers/trainer.py, 4.28 to 5.24)."""


def _is_of_model(node: ast.AST) -> TypeGuard[ast.Call]:
    """Tell whether an expression is `model.generate(...)`, or that of a model which is unwrapped there."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    if not _OF_A_MODEL.match(node.func.attr):
        return False
    owner = node.func.value
    if isinstance(owner, ast.Call) and "unwrap" in last_name(owner.func):
        owner = owner.args[0] if owner.args else owner
    return MODEL.match(unparse(owner).removesuffix(".module")) is not None


_OF_A_MODEL = lazy_pattern(
    r"^(?:\w+_)?generate(?:_(?!\w*(?:mask|ids|config|position|causal))\w+)?$"
)
"""Methods of a model that generate, its own class's too: `model.my_generate`, `model.generate_text`."""


def _forwards_of_callback(method: ast.FunctionDef, asking: Container[str]) -> Iterator[int]:
    """Yield the lines where a callback asks the model of its own accord, with rows that nobody said: itself, or in one of some
    functions."""
    for node in walk(method) if method.name.startswith("on_") else ():
        if isinstance(node, ast.Call) and (runs_model(node) or last_name(node.func) in asking):
            yield node.lineno


def asking(nodes: Iterable[ast.AST]) -> frozenset[str]:
    """Return the functions among some nodes that ask a model they are given, which no trainer runs of itself."""
    return frozenset(
        node.name
        for node in nodes
        if isinstance(node, ast.FunctionDef)
        and not (_BESIDE_STEPS.match(node.name) or _OF_TRAINERS.match(node.name))
        and any(map(runs_model, walk(node)))
    )


_OF_TRAINERS = lazy_pattern(
    r"^(?:_?compute_loss|training_step|train|predict|forward|__\w+__|main|\w*evaluation_loop)$"
)


def _with_graph(method: ast.FunctionDef) -> Iterator[int]:
    """Yield the lines where a trainer's own way to evaluate asks the model and keeps a graph. Trainer has `no_grad` in its
    `prediction_step` alone, and nothing is checkpointed in evaluation (transformers/trainer.py, 4.28 to 5.24)."""
    for node in with_graph([method]):
        if runs_model(node):
            yield node.lineno


_GENERATORS = frozenset({"generate", "pipeline", "simple_evaluate"})
"""A model's method, transformers' function that makes what calls it, and that of lm_eval (lm_eval/evaluator.py, 0.4)."""


def generating(nodes: Iterable[ast.AST]) -> frozenset[str]:
    """Return the functions among some nodes in which a model generates."""
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    return frozenset(each.name for each in functions if _generates(each))


def _generates(function: ast.FunctionDef) -> bool:
    """Tell whether a model generates in a function: one by its name, or what the function is given."""
    given = {f"{name}.generate" for name in parameters_of(function)}
    calls = [node for node in walk(function) if isinstance(node, ast.Call)]
    return any(_is_of_model(each) or unparse(each.func) in given for each in calls)


def generates(body: Sequence[ast.stmt], helpers: Container[str]) -> Iterator[tuple[str, int]]:
    """Yield where a block generates, or calls one of some functions that do, with its line."""
    for node in own_nodes(body):
        name = last_name(node.func) if isinstance(node, ast.Call) else ""
        if isinstance(node, ast.Call) and (name in _GENERATORS or name in helpers):
            yield GENERATES, node.lineno


def own_nodes(body: Sequence[ast.stmt]) -> Iterator[ast.AST]:
    """Yield the nodes of a block that are in no loop or function inside it."""
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.For, ast.While, ast.FunctionDef, ast.ClassDef)):
            continue
        yield node
        waiting += children(node)
