"""Where a loop of a script's own evaluates its model and keeps a graph: behind `model.eval()`, outside of every
`torch.no_grad()`."""

from __future__ import annotations

import ast
from collections.abc import Container, Iterable, Iterator, Sequence

from preflight.scripts.python.flow import takes_gradient
from preflight.scripts.python.nodes import last_name, names_in, unparse, walk
from preflight.scripts.python.without_graph import (
    Block,
    makes_no_graph,
    may_run_without_graph,
    runs_without_graph,
    sets_graph,
    with_graph,
)


def evaluates_with_graph(trees: Iterable[ast.Module], switches: Container[int]) -> bool:
    """Tell whether a model that trains is asked, after one of some calls that tell it to evaluate, where it keeps a graph.

    `switches` are the ids of `model.eval()` and its like that run.
    """
    trees = list(trees)
    nodes = _below(trees)
    named = {name for node in nodes for name in _managers(node)}
    aside = [each for each in nodes if isinstance(each, Block) and runs_without_graph(each, named)]
    called = {name for block in aside for name in _called(block.body)}
    functions = [
        each for each in nodes if isinstance(each, ast.FunctionDef) and each.name in called
    ]
    within = {id(node) for node in _below(functions)}
    trained = {name for name, method in _switched(nodes) if method == "train"}
    trained |= {unparse(call.func) for call in _calls(_steps(nodes))}
    return any(
        any(_asked(node.body, trained, switches, named))
        for node in with_graph(trees, named)
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.For, ast.While))
        and id(node) not in within
    )


def _managers(node: ast.AST) -> Iterator[str]:
    """Yield the names that a statement gives a manager without a graph: `aside = torch.no_grad()`."""
    if isinstance(node, ast.Assign) and makes_no_graph([node.value]):
        yield from filter(None, map(last_name, node.targets))


def is_turned_off(nodes: Sequence[ast.AST]) -> bool:
    """Tell whether a model is told to evaluate only where a condition fails that its blocks ask for a graph: both ways of
    `if is_training: model.train()`, `else: model.eval()`, and `with torch.set_grad_enabled(is_training):`."""
    asked = {
        unparse(each)
        for block in nodes
        if isinstance(block, ast.With) and may_run_without_graph(block)
        for item in block.items
        if isinstance(item.context_expr, ast.Call)
        for each in item.context_expr.args
    }
    told = [node for node in nodes if isinstance(node, ast.If) and unparse(node.test) in asked]
    return any(method == "eval" for node in told for _, method in _switched(_below(node.orelse)))


def _asked(
    body: Sequence[ast.stmt],
    trained: Container[str],
    switches: Container[int],
    named: Container[str],
) -> Iterator[ast.Call]:
    """Yield the calls of models that a block has told to evaluate and not to train again, where they keep a graph."""
    evaluating: set[str] = set()
    is_off = False
    for statement in body:
        below = walk(statement)
        if not isinstance(statement, (ast.FunctionDef, ast.ClassDef)) and not takes_gradient(below):
            calls = () if is_off else _calls(with_graph([statement], named))
            yield from (each for each in calls if unparse(each.func) in evaluating)
        if isinstance(statement, ast.Expr) and sets_graph(statement.value):
            is_off = makes_no_graph([statement.value])
        told = list(_switched(below, switches))
        evaluating |= {name for name, method in told if method == "eval" and name in trained}
        evaluating -= {name for name, method in told if method == "train"}


def _switched(
    nodes: Iterable[ast.AST], switches: Container[int] | None = None
) -> Iterator[tuple[str, str]]:
    """Yield what is told to train or to evaluate, and which of them; of the latter some calls alone."""
    for call in _calls(nodes):
        if isinstance(call.func, ast.Attribute) and call.func.attr in ("train", "eval"):
            runs = call.func.attr == "train" or switches is None or id(call) in switches
            yield from [(unparse(call.func.value), call.func.attr)] * runs


def _steps(nodes: Sequence[ast.AST]) -> list[ast.AST]:
    """Return the nodes of the loops that take gradients."""
    loops = [each for each in nodes if isinstance(each, (ast.For, ast.While))]
    return [node for loop in loops if takes_gradient(walk(loop)) for node in walk(loop)]


def _called(body: Sequence[ast.AST]) -> Iterator[str]:
    for call in _calls(_below(body)):
        yield last_name(call.func)
        yield from (name for each in call.args for name in names_in(each))


def _below(body: Sequence[ast.AST]) -> list[ast.AST]:
    return [node for statement in body for node in walk(statement)]


def _calls(nodes: Iterable[ast.AST]) -> Iterator[ast.Call]:
    return (node for node in nodes if isinstance(node, ast.Call))
