"""A model that a loop makes again: what trained before is still held when the next one comes to the device.

`trainer` and `optimizer` of the round before are given up when their names are given to others, which is when the next
model is there already. What a function made is let go when it returns: counted on Trainer of transformers 5.24, whose
circles of references Python had collected by the next round's first step.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

from preflight.scripts.files import last_name
from preflight.scripts.flow import trains
from preflight.scripts.nodes import unparse
from preflight.scripts.scope import walk_block

MADE_AGAIN = "a model that a loop makes while it holds the one before"
_LOADS = frozenset({"from_pretrained", "from_config", "SentenceTransformer", "CrossEncoder"})
_NO_MODEL = re.compile(r"Token|Config|Process|Extractor|Peft")


def made_again(nodes: Sequence[ast.AST]) -> Iterator[tuple[str, int]]:
    """Yield the loops of a file that load a model and train it, each with its line, where nothing in them is deleted."""
    for loop in nodes:
        if not isinstance(loop, (ast.For, ast.While)) or not trains(loop.body):
            continue
        inside = list(walk_block(loop.body))
        loads = any(isinstance(each, ast.Assign) and _loads(each.value) for each in inside)
        if loads and not any(isinstance(each, ast.Delete) for each in inside):
            yield MADE_AGAIN, loop.lineno


def _loads(node: ast.expr) -> bool:
    """Tell whether an expression loads a model: a method of its class, and of no tokenizer's."""
    if not isinstance(node, ast.Call):
        return False
    return last_name(node.func) in _LOADS and _NO_MODEL.search(unparse(node.func)) is None
