"""A trainer of a package that is neither here nor a library whose trainers are known: nobody read what its step keeps."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from preflight.lazy_pattern import lazy_pattern
from preflight.plan_choices import HF_TRAINERS
from preflight.scripts.python.library_classes import dotted
from preflight.scripts.python.nodes import branches_of, last_name
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.settings.lightning_calls import MODULES
from preflight.scripts.settings.sentence_calls import LIBRARY
from preflight.setting import Place

READ_ELSEWHERE = frozenset({*HF_TRAINERS, *MODULES, LIBRARY, "unsloth"})
"""Libraries whose trainers are read, or named, by their own readers."""


def unread_trainer(reader: ScriptReader) -> tuple[str, Place] | None:
    """Return a trainer that a script may make and nobody read, and where; None where it makes none.

    One counts that is called, that a class of the script's own which is called stands on, or that a variable may hold.
    """
    for node, path in _trainers(reader):
        name = dotted(reader, node, path)
        package = name.rpartition(".")[0]
        is_read = name.partition(".")[0] in READ_ELSEWHERE or reader.is_here(path, package)
        if package and not is_read:
            return name.rpartition(".")[2], Place("script", path, name, node.lineno)
    return None


def _trainers(reader: ScriptReader) -> Iterator[tuple[ast.expr, str]]:
    """Yield every expression that names a class of a trainer which may be made, with the file where it stands."""
    seen: set[int] = set()
    for found in reader.possible_calls:
        imported = reader.libraries.get(found.scope.path, {}).get(found.name, found.name)
        if _TRAINER.search(imported):
            yield found.node.func, found.scope.path
        held = reader.class_of(found.name, found.scope.path)
        if held is not None and id(held[0]) not in seen:
            seen.add(id(held[0]))
            yield from ((b, held[1].path) for b in held[0].bases if _names(b))
    for node, scope in reader.possible_statements:
        yield from ((each, scope.path) for each in branches_of(node.value) if _names(each))


def _names(node: ast.expr) -> bool:
    return _TRAINER.search(last_name(node)) is not None


_TRAINER = lazy_pattern(r"Trainer(?:Base|[A-Z]{2,})?$")
"""What packages call a trainer: `SFTTrainer`, detectron2's `TrainerBase`, deep_training's `TrainerHF`."""
