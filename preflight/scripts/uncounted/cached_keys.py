"""Whether a script leaves transformers' `use_cache` as the configs have it: on, so that a forward in evaluation hands out
the keys and values of every layer beside its logits."""

from __future__ import annotations

import ast
from collections.abc import Container, Iterable, Iterator

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.nodes import children, last_name, unparse
from preflight.scripts.python.without_graph import Block, runs_without_graph

WORD = "use_cache"
_UNDER_CHECKPOINTING = lazy_pattern(
    r"False if [\w.]*gradient_checkpointing else True|not [\w.]*gradient_checkpointing"
)
_OF_BOTH_MODES = frozenset({"compute_loss", "prediction_step"})
"""Methods of a Trainer through which evaluation goes."""
_MAKES = lazy_pattern(r"from_pretrained$|from_config$|Config$|^dict$|^update$")


def caches_keys(files: Iterable[tuple[ast.Module, Container[int]]]) -> bool | None:
    """Return whether an evaluation caches keys: not where a line that runs says otherwise, or may; None where that line
    turns it off for a model whose layers are checkpointed.

    `files` are trees with the lines that run. What a call of the model says in training is said of that call alone.
    """
    found: bool | None = True
    for tree, lines in files:
        for value in _said(tree, lines):
            text = unparse(value)
            if _UNDER_CHECKPOINTING.fullmatch(text):
                found = None
            elif text != "True":
                return False
    return found


def _said(tree: ast.AST, lines: Container[int]) -> Iterator[ast.AST]:
    """Yield what lines of a tree set the switch to; calls of models below `torch.no_grad()` and the like are evaluations'."""
    waiting = [(tree, False)]
    for node, is_judged in waiting:
        if getattr(node, "lineno", 0) in lines:
            yield from _set(node, is_judged)
        if isinstance(node, Block):
            is_judged |= getattr(node, "name", "") in _OF_BOTH_MODES or runs_without_graph(node)
        waiting += [(child, is_judged) for child in children(node)]


def _set(node: ast.AST, is_judged: bool) -> Iterator[ast.AST]:
    if isinstance(node, ast.Assign):
        if any(WORD in unparse(target) for target in node.targets):
            yield node.value
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == WORD:
                yield value
    elif isinstance(node, ast.Call):
        if last_name(node.func) == "setattr" and WORD in unparse(node):
            yield node
        if last_name(node.func) != "generate" and (
            is_judged or _MAKES.search(last_name(node.func))
        ):
            yield from (each.value for each in node.keywords if each.arg == WORD)
    elif isinstance(node, ast.AnnAssign) and unparse(node.target) == WORD:
        yield node  # an argument that somebody gives
    elif isinstance(node, ast.arg) and node.arg == WORD:
        yield node  # a model's own code
