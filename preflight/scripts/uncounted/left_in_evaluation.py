"""Where a loop over epochs leaves its model in evaluation: transformers' layers are checkpointed in training alone, so that all
rounds but the first keep every activation (transformers/modeling_layers.py GradientCheckpointingLayer, 5.24)."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping

from preflight.scripts.python.flow import takes_gradient
from preflight.scripts.python.nodes import last_name, unparse, walk


def left_in_evaluation(tree: ast.Module) -> int | None:
    """Return the line of a loop around the steps that tells the model to evaluate, and nothing in it to train again: by a call
    of its own, or by one in a function that it calls."""
    nodes = walk(tree)
    functions = {
        node.name: _methods(walk(node)) for node in nodes if isinstance(node, ast.FunctionDef)
    }
    for loop in (node for node in nodes if isinstance(node, ast.For)):
        inside = [node for part in loop.body for node in walk(part)]
        calls = [node for node in inside if isinstance(node, ast.Call)]
        done = _methods(inside).union(*(functions.get(last_name(each.func), ()) for each in calls))
        if "eval" not in done or "train" in done:
            continue
        steps = _called_by_steps(inside, functions)
        for call in calls:
            func = call.func
            is_of_steps = isinstance(func, ast.Attribute) and unparse(func.value) in steps
            if (is_of_steps and last_name(func) == "eval") or (
                steps and "eval" in functions.get(last_name(func), ())
            ):
                return call.lineno
    return None


def _methods(nodes: Iterable[ast.AST]) -> set[str]:
    calls = (node.func for node in nodes if isinstance(node, ast.Call))
    return {func.attr for func in calls if isinstance(func, ast.Attribute)}


def _called_by_steps(nodes: Iterable[ast.AST], functions: Mapping[str, set[str]]) -> set[str]:
    """Return what is called where gradients are taken: in a loop among some nodes, or in a function that they call."""
    steps = [node for node in nodes if isinstance(node, ast.For) and takes_gradient(walk(node))]
    called = {
        unparse(each.func) for step in steps for each in walk(step) if isinstance(each, ast.Call)
    }
    of_functions = (last_name(node.func) for node in nodes if isinstance(node, ast.Call))
    return called.union(name for name in of_functions if "backward" in functions.get(name, ()))
