"""Which blocks and functions of a script run without a graph, so that nothing is kept for a backward pass there."""

from __future__ import annotations

import ast
from collections.abc import Container, Iterable, Iterator, Sequence

from preflight.scripts.python.nodes import children, last_name, walk

Block = ast.With | ast.AsyncWith | ast.FunctionDef | ast.AsyncFunctionDef

MAKE_NO_GRAPH = frozenset({"no_grad", "inference_mode", "set_grad_enabled"})
"""Of torch, around a block or on a function (torch/autograd/grad_mode.py, 2.13); `model.eval()` is none of them."""


def runs_without_graph(block: Block, named: Container[str] = ()) -> bool:
    """Tell whether a block or a function surely runs without a graph; some names stand for what makes none.

    `with torch.no_grad() if self.is_frozen else nullcontext():` may keep one, and so may what any other name stands for.
    """
    return any(_makes_none(each) or last_name(each) in named for each in _around(block))


def may_run_without_graph(block: Block) -> bool:
    """Tell whether one of them is named around a block or a function, on whatever condition."""
    named = [each for around in _around(block) for each in walk(around)]
    return any(isinstance(each, ast.expr) and last_name(each) in MAKE_NO_GRAPH for each in named)


def makes_no_graph(nodes: Sequence[ast.AST]) -> bool:
    """Tell whether some nodes have what surely makes no graph, wherever it stands: `manager = torch.no_grad()`,
    `torch.set_grad_enabled(False)`. What stands on a condition, and what is called, is none by itself."""
    parts = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    parts |= {id(each) for node in nodes if isinstance(node, ast.IfExp) for each in walk(node)}
    return any(isinstance(n, ast.expr) and id(n) not in parts and _makes_none(n) for n in nodes)


def sets_graph(node: ast.expr) -> bool:
    """Tell whether an expression says for all that runs behind it whether there is a graph: `set_grad_enabled(False)`."""
    return isinstance(node, ast.Call) and last_name(node.func) == "set_grad_enabled"


def with_graph(nodes: Iterable[ast.AST], named: Container[str] = ()) -> Iterator[ast.AST]:
    """Yield some nodes and those below that may have a graph: none of a block without one, but for what asks for it there."""
    for node in nodes:
        if isinstance(node, Block) and runs_without_graph(node, named):
            asks = (each for each in walk(node) if isinstance(each, ast.With) and _asks(each))
            yield from (inner for block in asks for inner in with_graph(block.body, named))
        else:
            yield node
            yield from with_graph(children(node), named)


def _asks(block: ast.With) -> bool:
    called = (getattr(each, "func", each) for each in _around(block))
    return any(last_name(each) == "enable_grad" for each in called)


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
