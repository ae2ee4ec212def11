"""Whether a script trains, and whether it does so only where `--do_train` asks for it, as transformers'
examples and what is made from them do."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.modules import written_in
from preflight.scripts.python.nodes import last_name, walk
from preflight.scripts.python.trees import under
from preflight.scripts.reach.reach import Reach

ASKS = "do_train"
_ASKED = lazy_pattern(ASKS)
_SETS = lazy_pattern(rf"\b{ASKS}\s*=(?!\s*False\b|=)")
_TRAINER = lazy_pattern(r"(?i)trainer$")

TRAINS_ITSELF = r"deepspeed\.initialize\((?![^()]*\)\[0\])|\.backward\(|(?<!prof)(?<!profiler)\.step\(\)|Trainer\b|training_step\("
"""Words of a script that trains by what is read of it."""
TRAINS = rf"{TRAINS_ITSELF}|(?<![Ii]ndex)\.(?:pre)?train\((?!\s*False\b)|\.fit\(|(?<![.\w])(?:pre)?train\("
"""Calls of which a script that trains has one; an engine that is taken of DeepSpeed without its optimizer only infers, a
module turned to `train(False)` evaluates, and an index of faiss sorts vectors (faiss/Index.h train, 1.12)."""
_GRADIENTS = r"\.backward\("
_CHANGES_WEIGHTS = (
    r"(?i)loss|optim|adam|\bsgd|zero_grad|initialize\(|trainer\b|from_pretrained|from_config"
)
"""Words without one of which gradients are those of tensors that a test or a benchmark makes, and change no weights."""


def trains_if_asked(trees: Iterable[ast.Module], text: str) -> bool:
    """Tell whether every `train()` of a trainer that some files have stands under a condition on `do_train`; False where there
    is none, or a file sets it itself."""
    if ASKS not in text or _SETS.search(text) is not None:
        return False
    calls = [is_asked for tree in trees for is_asked in _calls(tree)]
    return bool(calls) and all(calls)


def _calls(tree: ast.Module) -> Iterator[bool]:
    """Yield for each `train()` of a file's trainers whether it is asked for."""
    nodes = walk(tree)
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


def trains(reach: Reach, text: str) -> bool:
    """Tell whether a text has a call that trains; who imports what is asked only where nothing else in it does."""
    if re.search(_CHANGES_WEIGHTS, text) is None:
        text = re.sub(_GRADIENTS, "", text)
    if re.search(TRAINS_ITSELF, text):
        return True
    may = re.search(TRAINS, text) is not None
    return may and re.search(TRAINS, _without_calls_elsewhere(reach, text)) is not None


def _without_calls_elsewhere(reach: Reach, text: str) -> str:
    """Return a text without `train()` and its kind of what is imported from no file here: nobody read what that does."""
    names = {
        (alias.asname or alias.name).partition(".")[0]
        for module in reach.files
        for node in walk(module.tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias, (written, _) in zip(node.names, written_in(node), strict=True)
        if reach.modules.find(module.path, written) is None
    }
    if not names:
        return text
    root = rf"(?<![\w.])(?:{'|'.join(map(re.escape, sorted(names)))})"
    itself = [name for name in ("train", "pretrain") if name in names]
    called = [
        rf"{root}(?:\.\w+)*\.(?:train|pretrain|fit)\(",
        *(rf"(?<![\w.]){name}\(" for name in itself),
    ]
    return re.sub("|".join(called), "", text)
