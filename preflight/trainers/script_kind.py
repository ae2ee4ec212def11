"""Which trainer a script of somebody's own uses, by the classes that it makes for a command line."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from preflight.lazy_pattern import lazy_pattern
from preflight.plan_choices import HF_TRAINERS
from preflight.trainers.kind import MORE_TRL_METHODS, TRL_CONFIGS, TRL_METHODS

_OF_MODULE = lazy_pattern(r"\b(?:transformers|trl)\.[\w.]*(?:Trainer|TrainingArguments)\b")
"""A class named by the module that it is taken from."""

if TYPE_CHECKING:
    from preflight.launch import LaunchCommand
    from preflight.scripts.python.own_parser import OwnParser
    from preflight.scripts.python.reader import ScriptReader
    from preflight.trainers.kind import TrainerKind


def open_script(
    kind: TrainerKind, command: LaunchCommand, script: str | None
) -> tuple[ScriptReader, OwnParser] | None:
    """Return the script with the options that it declares; None where there is none of somebody's own to read."""
    if not kind.text or script is None or kind.is_own_script:
        return None
    from preflight.scripts import reading as script_reading
    from preflight.scripts.python import options as script_options

    path = command.script_file(script)
    reader = script_reading.open_script(command, path, kind.text)
    return None if reader is None else (reader, script_options.own_parser(reader, path))


def with_classes(kind: TrainerKind, reader: ScriptReader | None) -> TrainerKind:
    """Return the kind of a script with the classes of libraries that it makes its arguments and its trainer of.

    A script that has TRL's parser or a collator of it, and the Trainer of transformers, is not TRL's.
    """
    if kind.is_own_script or not kind.text:
        return kind
    if reader is None:
        return kind._replace(classes=frozenset())
    from preflight.scripts.python.library_classes import library_classes, loads_model

    classes = library_classes(reader)
    kind = kind._replace(classes=classes, loads_model=loads_model(reader))
    if kind.trainer in (None, "plain_loop"):
        return _by_classes(kind, reader.path)
    if kind.trainer in HF_TRAINERS and not any(map(_TRAINS.search, classes)):
        script = kind.because.partition(" ")[0]
        if _is_others(kind, reader):
            because = f"{script} uses a Trainer of its own"
            return kind._replace(trainer=None, trl_script=None, because=because)
        if _only_imports(kind, reader):
            return _as_loop(kind, f"{script} imports a Trainer and makes none")
    if kind.trainer in HF_TRAINERS and _trains_by_hand(reader):
        return _as_loop(kind, f"{os.path.basename(reader.path)} trains with a loop of its own")
    trains_trl = any(name.startswith("trl.") and name.endswith("Trainer") for name in classes)
    plain = {"transformers.Trainer", "transformers.Seq2SeqTrainer"} & classes
    if kind.trainer == "trl" and plain and not trains_trl and not classes & TRL_CONFIGS:
        because = f"{kind.because}, and trains with {sorted(plain)[0]}"
        return kind._replace(trainer="transformers", because=because, trl_script=None)
    return kind


def with_reached(kind: TrainerKind, reader: ScriptReader) -> TrainerKind:
    """Return the kind of a script that was read for a command line: the trainers that others lead to are not its own."""
    if kind.trainer not in HF_TRAINERS or kind.classes is None:
        return kind
    from preflight.scripts.python.library_classes import library_classes

    classes = library_classes(reader, reader.possible_calls)
    made, reached = ({n for n in each if n.endswith("Trainer")} for each in (kind.classes, classes))
    if not reached or not reached < made:
        return kind
    names = {name.partition(".")[2] for name in reached}
    unreached = frozenset(name.partition(".")[2] for name in made - reached) - names
    kind = kind._replace(classes=classes, unreached=unreached)
    methods = {**TRL_METHODS, **MORE_TRL_METHODS}
    because = f"{kind.because.partition(' ')[0]} trains with {sorted(names)[0]} as it is told to"
    if any(name.startswith("trl.") for name in reached):
        told = [methods[name] for name in sorted(names) if name in methods]
        method = kind.trl_script if kind.trl_script in told or not told else told[0]
        return kind._replace(trl_script=method, because=because)
    if classes & TRL_CONFIGS:
        return kind
    return kind._replace(trainer="transformers", trl_script=None, because=because)


def _by_classes(kind: TrainerKind, script: str) -> TrainerKind:
    """Return the kind of a script that names no trainer of a library, by the one that a trainer of its repository stands on."""
    trainers = sorted(name for name in kind.classes or () if name.endswith("Trainer"))
    if not trainers:
        return kind
    library, _, name = trainers[-1].partition(".")
    method = {**TRL_METHODS, **MORE_TRL_METHODS}.get(name, "sft") if library == "trl" else None
    because = f"{os.path.basename(script)} trains with what stands on {name} of {library}"
    return kind._replace(trainer=library, trl_script=method, because=because)


def _is_others(kind: TrainerKind, reader: ScriptReader) -> bool:
    """Tell whether every trainer, and arguments of one, that a script or what it imports names is surely another library's."""
    from preflight.scripts.python.library_classes import is_anothers

    named = [(name, path) for path in reader.libraries for name in _trainers_of(reader, path)]
    is_read = any(path in (reader.path, kind.because.partition(" ")[0]) for _, path in named)
    return (
        is_read
        and _OF_MODULE.search(kind.text) is None
        and all(is_anothers(reader, *each) for each in named)
    )


def _as_loop(kind: TrainerKind, because: str) -> TrainerKind:
    trainer = "plain_loop" if "Accelerator" in kind.text else None
    return kind._replace(trainer=trainer, trl_script=None, because=because)


def _trains_by_hand(reader: ScriptReader) -> bool:
    """Tell whether a script makes no trainer anywhere, and calls for gradients itself: what its parser has of a Trainer's
    arguments is what its loop makes of it."""
    from preflight.scripts.python.flow import takes_gradient

    if any(reader.makes_trainer(call) for call in reader.everywhere):
        return False
    names = {name for held in reader.libraries.values() for name in held}
    names |= {getattr(node, "attr", "") for node in reader.nodes}
    may_make = any(name.lower().endswith("trainer") for name in names)
    return not may_make and takes_gradient(reader.nodes)


def _only_imports(kind: TrainerKind, reader: ScriptReader) -> bool:
    """Tell whether no line of a script uses the trainers, and arguments of one, that it imports from a library."""
    named = [each for names in reader.libraries.values() for each in names.items()]
    imported = {
        local
        for local, dotted in named
        if dotted.partition(".")[0] in HF_TRAINERS and _TRAINS.search(dotted)
    }
    is_filled = any(dotted.partition(".")[0] in _FILLS for _, dotted in named)
    told = set() if is_filled or not imported else _of_annotations(reader.nodes)
    read = (node for node in reader.nodes if id(node) not in told)
    used = {getattr(node, "id", getattr(node, "attr", "")) for node in read}
    return bool(imported) and not imported & used and _OF_MODULE.search(kind.text) is None


def _of_annotations(nodes: Iterable[ast.AST]) -> set[int]:
    """Return the ids of what stands in the annotations of parameters: a callback's say whose arguments it is told of."""
    from preflight.scripts.python.nodes import walk

    told = (node.annotation for node in nodes if isinstance(node, ast.arg) and node.annotation)
    return {id(each) for annotation in told for each in walk(annotation)}


_FILLS = frozenset({"tyro", "draccus", "pyrallis", "jsonargparse", "simple_parsing"})
"""Libraries that make what a parameter's annotation names of the command line."""
_TRAINS = lazy_pattern(r"(?:Trainer|TrainingArguments)$|^trl\..*Config$")


def _trainers_of(reader: ScriptReader, path: str) -> list[str]:
    """Return the names of trainers and of their arguments that a file imports or defines."""
    defined = (cls.name for cls, scope in reader.classes.values() if scope.path == path)
    names = {*reader.libraries[path], *reader.imports.get(path, {}), *defined}
    return sorted(
        name for name in names if name == "*" or name.endswith(("Trainer", "TrainingArguments"))
    )
