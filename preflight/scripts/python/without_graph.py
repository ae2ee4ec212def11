"""Which blocks and functions of a script run without a graph, so that nothing is kept for a backward pass there."""

from __future__ import annotations

import ast

from preflight.scripts.python.nodes import last_name, walk

Block = ast.With | ast.AsyncWith | ast.FunctionDef | ast.AsyncFunctionDef

MAKE_NO_GRAPH = frozenset({"no_grad", "inference_mode", "set_grad_enabled"})
"""Of torch, around a block or on a function (torch/autograd/grad_mode.py, 2.13); `model.eval()` is none of them."""


def runs_without_graph(block: Block) -> bool:
    """Tell whether a block or a function surely runs without a graph.

    `with torch.no_grad() if self.is_frozen else nullcontext():` may keep one, and so may what a name stands for.
    """
    return any(map(_makes_none, _around(block)))


def may_run_without_graph(block: Block) -> bool:
    """Tell whether one of them is named around a block or a function, on whatever condition."""
    named = [each for around in _around(block) for each in walk(around)]
    return any(isinstance(each, ast.expr) and last_name(each) in MAKE_NO_GRAPH for each in named)


def _around(block: Block) -> list[ast.expr]:
    if isinstance(block, (ast.With, ast.AsyncWith)):
        return [item.context_expr for item in block.items]
    return block.decorator_list


def _makes_none(node: ast.expr) -> bool:
    """Tell whether a manager or a decorator makes no graph: `no_grad()`, `no_grad`, `inference_mode(True)`."""
    if not isinstance(node, ast.Call):
        return last_name(node) in MAKE_NO_GRAPH - {"set_grad_enabled"}
    name = last_name(node.func)
    modes = [*node.args, *(each.value for each in node.keywords if each.arg == "mode")]
    given = [each.value if isinstance(each, ast.Constant) else None for each in modes]
    return given == [False] if name == "set_grad_enabled" else name in MAKE_NO_GRAPH and all(given)
