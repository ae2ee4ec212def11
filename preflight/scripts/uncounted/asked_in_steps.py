"""Which functions of a script the steps of its training ask for what they take gradients of."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.flow import takes_gradient
from preflight.scripts.python.leading import leading_to
from preflight.scripts.python.nodes import last_name, walk
from preflight.scripts.python.trees import tree_of
from preflight.scripts.python.without_graph import runs_without_graph
from preflight.scripts.uncounted.between_steps import asking, generating, own_nodes
from preflight.scripts.uncounted.own_loops import grows_what_it_returns
from preflight.scripts.uncounted.own_steps import Asked, forwards_of, steps_of

_ASKS = lazy_pattern(r"generate|(?:model|engine|policy|net)\b")
"""Words of a file in which a model may be asked."""
_TRAINS = lazy_pattern(r"\bbackward\(|def (?:compute_loss|training_step|train_step)\b")

_OF_PAIRS = frozenset({"concatenated_inputs"})
"""What TRL's trainers of pairs, and copies of them, put both answers of a row into one batch with: counted as pairs
(trl/trainer/dpo_trainer.py, 0.7 to 0.11; experimental/orpo/orpo_trainer.py, 1.14)."""


def asked_in(texts: Iterable[str]) -> Asked:
    """Return which functions of some files ask the model, and which a training's steps ask for its outcome or its rows."""
    texts = list(texts)
    trees = list(_trees(text for text in texts if _ASKS.search(text)))
    nodes = [node for tree in trees for node in walk(tree)]
    asked = Asked(generate=generating(nodes), ask_model=asking(nodes))
    return asked._replace(**_of_steps(texts)) if any(map(_TRAINS.search, texts)) else asked


def _of_steps(texts: Iterable[str]) -> dict[str, frozenset[str]]:
    trees = list(_trees(texts))
    functions: dict[str, list[ast.FunctionDef]] = {}
    blocks: list[list[ast.stmt]] = []
    for tree in trees:
        nodes = walk(tree)
        blocks += steps_of(nodes).values()
        for node in nodes:
            if isinstance(node, ast.FunctionDef) and not _is_without_graph(node):
                functions.setdefault(node.name, []).append(node)
    found: set[str] = set()
    for block in blocks:  # which grows
        for name in _asked(block) & {*functions} - found:
            found.add(name)
            blocks += [each.body for each in functions[name]]
    running = _running(found, functions)
    growing = (
        name
        for name in found - running - _OF_PAIRS
        if any(map(grows_what_it_returns, functions[name]))
    )
    return {"run_model": running, "grow_rows": frozenset(growing)}


def _running(found: set[str], functions: Mapping[str, Sequence[ast.FunctionDef]]) -> frozenset[str]:
    """Return those of some functions that run the model, themselves or in one that they call."""
    running: set[str] = set()
    size = -1
    while size < len(running):
        size = len(running)
        running |= {
            name
            for name in found
            if any(forwards_of(each.body, running) for each in functions[name])
        }
    return frozenset(running)


def _trees(texts: Iterable[str]) -> Iterator[ast.Module]:
    for text in texts:
        try:
            yield tree_of(text)
        except (SyntaxError, ValueError, RecursionError):
            continue


def _is_without_graph(function: ast.FunctionDef) -> bool:
    """Tell whether a function is none of a step: it runs without a graph, or it is what a module of its own computes."""
    return function.name in ("forward", "__init__") or runs_without_graph(function)


def _asked(block: Sequence[ast.stmt]) -> set[str]:
    """Return what is called for the gradient that a block takes, or for what it returns."""
    nodes = list(own_nodes(block))
    ends: list[ast.expr] = [
        each for each in nodes if isinstance(each, ast.Call) and takes_gradient([each])
    ]
    ends += [each.value for each in nodes if isinstance(each, ast.Return) and each.value]
    calls = {id(each): each for value in leading_to(ends, nodes) for each in walk(value)}
    return {last_name(each.func) for each in calls.values() if isinstance(each, ast.Call)}
