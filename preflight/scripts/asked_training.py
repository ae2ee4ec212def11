"""Whether a script trains only where `--do_train` asks for it, as transformers' examples and what is made from them do."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator

from preflight.scripts.files import last_name
from preflight.scripts.trees import under

ASKS = "do_train"
_ASKED = re.compile(ASKS)
_SETS = re.compile(rf"\b{ASKS}\s*=\s*(?!False\b|=)")
_TRAINER = re.compile(r"(?i)trainer$")


def trains_if_asked(trees: Iterable[ast.Module], text: str) -> bool:
    """Tell whether every `train()` of a trainer that some files have stands under a condition on `do_train`; False where there
    is none, or a file sets it itself."""
    if ASKS not in text or _SETS.search(text) is not None:
        return False
    calls = [is_asked for tree in trees for is_asked in _calls(tree)]
    return bool(calls) and all(calls)


def _calls(tree: ast.Module) -> Iterator[bool]:
    """Yield for each `train()` of a file's trainers whether it is asked for."""
    nodes = list(ast.walk(tree))
    trainers = {
        target.id
        for node in nodes
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        for target in node.targets
        if isinstance(target, ast.Name) and _TRAINER.search(last_name(node.value.func))
    }
    asked = under(nodes, _ASKED)
    for node in nodes:
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner = node.func.value
        if node.func.attr != "train":
            continue
        made = isinstance(owner, ast.Call) and _TRAINER.search(last_name(owner.func))
        if made or last_name(owner) in trainers or _TRAINER.search(last_name(owner)):
            yield id(node) in asked
