"""Trainers of a repository's own, by their names: one that changes nothing of what TRL's takes, and one called like TRL's."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from preflight.launch import LaunchCommand
from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.nodes import last_name, methods_of
from preflight.scripts.python.repository_files import repository_files
from preflight.scripts.python.trees import nodes_of
from preflight.values import NamedTuple

if TYPE_CHECKING:
    from preflight.trainers.overrides import Override

_MOST_NAMED = 3
"""Methods of a trainer that are named; the rest is counted."""


class OwnTrainer(NamedTuple):
    """A trainer of a repository's own that stands on one of TRL's."""

    name: str
    base: str
    """The one of TRL's."""
    overrides: tuple[Override, ...]
    """Methods of it that may change what a step holds."""
    is_counted: bool
    """Whether those are all of its loss, which preflight/scripts/uncounted/step_loss.py can run without numbers."""

    def __str__(self) -> str:
        kinds = sorted({str(each): each.rank for each in self.overrides}.items(), key=lambda k: k[1])  # fmt: skip
        first, more = [name for name, _ in kinds[:_MOST_NAMED]], len(kinds) - _MOST_NAMED
        return ", ".join(first) + (f" and {more} more" if more > 0 else "")


def as_their_base(
    text: str, files: Iterable[tuple[str, str]], bases: Iterable[str]
) -> tuple[str, tuple[OwnTrainer, ...]]:
    """Return a script that makes the trainer below where it makes one of its repository's own that holds what that does,
    and the others of its own that stand on one; `files` are paths and texts in which it may be, `bases` the trainers below.
    In the script itself the lines of the class are emptied.
    """
    below = {*bases}
    made = {*re.findall(r"\b(\w+Trainer)\(", text), *_derived(text, below)} - below
    if not made:
        return text, ()
    script, others = text, []
    sources = [text, *(other for _, other in files if other != text)]
    for name in sorted(made):
        chains = [_chain(cls, sources, below) for s in sources for cls in _classes(s, {name})]
        bases_of = {None if each is None else each.base for each in chains}
        base = next(iter(bases_of)) if len(bases_of) == 1 else None
        if base is None:
            continue
        from preflight.trainers.overrides import Methods  # few scripts have such a trainer

        found = [each.classes for each in chains if each is not None]
        methods = [Methods(classes, _of_libraries(sources)) for classes in found]
        overrides = tuple(dict.fromkeys(o for each in methods for o in each.overrides))
        if overrides:
            is_counted = len(methods) == 1 and methods[0].are_of_loss
            others.append(OwnTrainer(name, base, overrides, is_counted))
            continue
        for cls in (each for classes in found for each in classes):
            if any(cls is each for each in _classes(script, {cls.name})):
                text = _without(text, cls)
        text = re.sub(rf"\b{name}\b", base, text)
    return text, tuple(others)


def _derived(text: str, bases: set[str]) -> list[str]:
    """Return the classes of a script that stand on one of some trainers, whatever they are called, and are made."""
    classes = re.findall(r"^class (\w+)\([^)]*?(\w+)\)", text, re.MULTILINE)
    return [name for name, base in classes if base in bases and re.search(rf"\b{name}\(", text)]


def _of_libraries(sources: Iterable[str]) -> frozenset[str]:
    """Return the functions of libraries that files name, of which none runs a model that it is not given."""
    found = (names for text in sources for names in _FROM_LIBRARY.findall(text))
    return frozenset(name for names in found for name in re.findall(r"\w+", names) if name[0].islower())  # fmt: skip


_FROM_LIBRARY = lazy_pattern(
    r"^from[ \t]+(?:torch|trl\.trainer\.utils|trl\.trainer\.callbacks|transformers\.trainer_utils|accelerate\.utils|contextlib|math|collections)\b[\w.]*[ \t]+import[ \t]+(\([^)]*|[^\n]*)",
    re.MULTILINE,
)


class _Chain(NamedTuple):
    classes: list[ast.ClassDef]
    """A class and those of its repository that it stands on."""
    base: str


def _chain(cls: ast.ClassDef, sources: list[str], bases: set[str]) -> _Chain | None:
    """Return what a class stands on; None where that is none of some trainers, or a class that is not here."""
    found, waiting, base = [cls], [*cls.bases], ""
    while waiting:
        name = last_name(waiting.pop(0))
        if name in bases and not base:
            base = name
        elif name not in ("object", "ABC"):
            above = [each for s in sources for each in _classes(s, {name})]
            if len(above) != 1 or len(found) > _MOST_BASES:
                return None
            found.append(above[0])
            waiting = [*above[0].bases, *waiting]
    return _Chain(found, base) if base else None


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
        losses = [each for each in found if "compute_loss" in methods_of(each[0])]
        if losses:
            around = losses[0][1].replace("def compute_loss(", "def loss_of_another(")
            return "\n".join((text, around, *(ast.unparse(cls) for cls, _ in losses)))
        names = {last_name(base) for cls, _ in found for base in cls.bases}
    return text


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
    for node in nodes_of(text):
        if isinstance(node, ast.ClassDef) and node.name in names:
            yield node


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
