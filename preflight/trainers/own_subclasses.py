"""Trainers of a repository's own, by their names: one that changes nothing of what TRL's takes, and one called like TRL's."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator

from preflight.launch import LaunchCommand
from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.nodes import last_name, walk
from preflight.scripts.python.repository_files import repository_files
from preflight.scripts.python.trees import tree_of

HARMLESS = frozenset(
    {
        "tokenize_row", "build_tokenized_answer", "process_row", "_prepare_dataset", "log", "store_metrics",
        "create_model_card", "push_to_hub", "save_model", "_save", "_save_checkpoint", "_get_train_sampler",
        "_get_eval_sampler",
    }
)  # fmt: skip
"""Methods of TRL's trainers that run before training, say the order of rows, or write what is there already (trl/trainer,
0.8 to 1.16; transformers/trainer.py _get_train_sampler, which chooses which rows and not how many, 4.28 to 5.24)."""


def as_their_base(text: str, files: Iterable[tuple[str, str]], bases: Iterable[str]) -> str:
    """Return a script that makes the trainer below where it makes one of its repository's own that only prepares rows or
    logs otherwise; `files` are paths and texts in which it may be, `bases` the trainers that one may stand on. In the
    script itself the lines of the class are emptied.
    """
    made = set(re.findall(r"\b(\w+Trainer)\(", text)) - {*bases}
    if not made:
        return text
    script = text
    for source in (script, *(other for _, other in files)):
        for cls in _classes(source, made):
            base = last_name(cls.bases[0]) if len(cls.bases) == 1 else ""
            if base not in {*bases} or not _is_harmless(cls):
                continue
            text = _without(text, cls) if source is script else text
            text = re.sub(rf"\b{cls.name}\b", base, text)
    return text


def with_own_loss(text: str, files: Iterable[tuple[str, str]]) -> str:
    """Return a script with the compute_loss of the trainer that it makes, and the file around that, where it is another
    file's; the script itself where it has one, or makes no such trainer.

    The one that is nearest to the trainer's own class runs; other trainers' of that file are called otherwise.
    """
    if "def compute_loss(" in text:
        return text
    others = [other for _, other in files if other != text]
    if not any("def compute_loss(" in other for other in others):
        return text
    names = set(re.findall(r"\b([A-Z]\w*)\(", text))
    for _ in range(_MOST_BASES):
        found = [(cls, other) for other in others for cls in _classes(other, names)]
        losses = [each for each in found if _has_loss(each[0])]
        if losses:
            around = losses[0][1].replace("def compute_loss(", "def loss_of_another(")
            return "\n".join((text, around, *(ast.unparse(cls) for cls, _ in losses)))
        names = {last_name(base) for cls, _ in found for base in cls.bases}
    return text


def _has_loss(cls: ast.ClassDef) -> bool:
    return any(isinstance(n, ast.FunctionDef) and n.name == "compute_loss" for n in cls.body)


_MOST_BASES = 4
"""Classes of a repository that stand on one another."""


def _without(text: str, cls: ast.ClassDef) -> str:
    """Return a file with the lines of a class emptied."""
    first = min([cls.lineno, *(each.lineno for each in cls.decorator_list)])
    lines = text.split("\n")
    lines[first - 1 : cls.end_lineno] = [""] * ((cls.end_lineno or first) - first + 1)
    return "\n".join(lines)


def _classes(text: str, names: set[str]) -> Iterator[ast.ClassDef]:
    if not any(f"class {name}" in text for name in names):
        return
    try:
        tree = tree_of(text)
    except (SyntaxError, ValueError, RecursionError):
        return
    yield from (
        node for node in walk(tree) if isinstance(node, ast.ClassDef) and node.name in names
    )


def _is_harmless(cls: ast.ClassDef) -> bool:
    """Tell whether a class only has methods of HARMLESS, and texts."""
    return all(
        node.name in HARMLESS if isinstance(node, ast.FunctionDef) else _is_text(node)
        for node in cls.body
    )


def _is_text(node: ast.stmt) -> bool:
    is_docs = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    is_name = isinstance(node, ast.Assign) and isinstance(node.value, (ast.Constant, ast.List))
    return is_docs or is_name or isinstance(node, ast.Pass)


_OF_ELSEWHERE = lazy_pattern(
    r"^[ \t]*from[ \t]+(?!trl\b)(\.?)([\w.]*)[ \t]+import[ \t]+(?:\([^)]*|[^\n]*)\bSFTTrainer\b",
    re.MULTILINE,
)
"""An SFTTrainer that is not taken from TRL."""


def with_own_name(text: str, command: LaunchCommand, script: str | None) -> str:
    """Return a file with another name for an SFTTrainer that it takes from a module of its own repository."""
    found = _OF_ELSEWHERE.search(text)
    if found is None or script is None:
        return text
    root = re.escape(found[2].partition(".")[0])
    own = re.compile(rf"(?:^|/){root}(?:/|\.py$)")
    if found[1] or any(own.search(path) for path, _ in repository_files(command, script)):
        return re.sub(r"\bSFTTrainer\b", "OwnTrainer", text)
    return text
