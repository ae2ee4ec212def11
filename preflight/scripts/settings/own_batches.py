"""Which rows a step has where a Trainer's subclass takes them from somewhere else than its arguments."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.nodes import (
    keyword_of,
    last_name,
    methods_of,
    parameters_of,
    unparse,
    walk,
)
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN, Known, Scope
from preflight.scripts.settings.script_settings import ScriptSettings
from preflight.setting import Place

BATCHES = {
    "get_train_dataloader": "per_device_train_batch_size",
    "get_eval_dataloader": "per_device_eval_batch_size",
    "_get_dataloader": "per_device_train_batch_size",
}
"""Method of a Trainer that makes a loader -> the argument that its rows come from (transformers/trainer.py, 5.24)."""
TAKES = "get_batch_samples"
"""The method that takes the micro batches of one update from a loader (transformers/trainer.py, since 4.46)."""
JOINS = ("batch", "batched")
"""Methods of datasets that make one row of several (datasets/arrow_dataset.py batch, since 2.21; webdataset's batched)."""
_BY_ARGUMENTS = lazy_pattern(r"super\(.*?\)\.get_|(?:train|eval)_batch_size")


def read_batches(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Note a Trainer's subclass whose loader takes its rows from somewhere else than the Trainer's arguments, or whose step
    gets others than the loader gives."""
    for name, argument in BATCHES.items():
        for method, place in overridden(reader, name):
            if not _is_by_arguments(method) or _reckons_with_rows(method):
                settings.put_later(argument, Known(UNKNOWN, place))
    places = [place for method, place in overridden(reader, TAKES) if not _hands_on(method)]
    if reader.possible(*JOINS):
        places += _joined(reader)
    for place in places:
        settings.put_later("per_device_train_batch_size", Known(UNKNOWN, place))


def _is_by_arguments(method: ast.FunctionDef) -> bool:
    """Tell whether a method makes its loader with the rows that arguments say; one that is given batches says them itself."""
    text = unparse(method)
    for node in walk(method):
        batches = keyword_of(node, "batch_sampler") if isinstance(node, ast.Call) else None
        if batches is not None:
            held = [value for name, value in _given(method) if name == last_name(batches)]
            text = " ".join(map(unparse, (batches, *held)))
    return _BY_ARGUMENTS.search(text) is not None


def _joined(reader: ScriptReader) -> Iterator[Place]:
    """Yield where a method of a dataset makes one row of several, of the rows that a trainer is handed."""
    from preflight.scripts.settings.followed_rows import all_sets_behind  # few scripts do so

    for trainer in reader.possible_trainers:
        for node, scope in all_sets_behind(reader, trainer, "train_dataset"):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in JOINS
            ):
                yield Place("script", scope.path, node.func.attr, node.lineno)


def overridden(reader: ScriptReader, name: str) -> Iterator[tuple[ast.FunctionDef, Place]]:
    """Yield the methods of this name of the script's own Trainers, and of classes that a function makes of one it is given."""
    held = [(cls, s.path) for cls, s in reader.classes.values() if reader.classes.trains(cls)]
    for cls, path in (*held, *_made_classes(reader)):
        node = methods_of(cls).get(name)
        if node is not None:
            yield node, Place("script", path, name, node.lineno)


def _made_classes(reader: ScriptReader) -> Iterator[tuple[ast.ClassDef, str]]:
    """Yield the classes on a parameter of a function that is called, `def with_steps(base): class Own(base): ...`."""
    for path, tree in reader.trees.items():
        for function in walk(tree):
            if isinstance(function, ast.FunctionDef) and reader.uses.calls.get(function.name):
                for cls in function.body:
                    if isinstance(cls, ast.ClassDef) and {*map(last_name, cls.bases)}.intersection(
                        parameters_of(function)
                    ):
                        yield cls, path


def is_within_trainer(reader: ScriptReader, node: ast.expr, scope: Scope) -> bool:
    """Tell whether an expression is `self` in a method of a Trainer of the script's own."""
    held = reader.class_of(reader.class_around(scope), scope.path)
    return last_name(node) == "self" and held is not None and reader.classes.trains(held[0])


def _reckons_with_rows(method: ast.FunctionDef) -> bool:
    """Tell whether a method makes another number of the rows that arguments say: `self.args.train_batch_size * 2`."""
    reckoned = (node for node in walk(method) if isinstance(node, ast.BinOp))
    return any(
        last_name(each).endswith("_batch_size")
        for node in reckoned
        for each in (node.left, node.right)
    )


def _hands_on(method: ast.FunctionDef) -> bool:
    """Tell whether a method gives back, first of two, what the method above it does, or a list of what `next` gives; one that is
    given a model is what trainers of pairs generate with (trl/trainer/dpo_trainer.py, 0.7.11 to 0.12)."""
    if "model" in parameters_of(method):
        return True
    for node in walk(method):
        if isinstance(node, ast.Return) and node.value is not None:
            first = node.value.elts[0] if isinstance(node.value, ast.Tuple) else node.value
            given = [first]
            if isinstance(first, ast.Name):
                given = [value for name, value in _given(method) if name == first.id]
            if not given or not all(map(_is_of_loader, given)):
                return False
    return True


def _given(method: ast.FunctionDef) -> Iterator[tuple[str, ast.expr]]:
    """Yield the names of a method and what they are given, or grown by; of several at once the first."""
    for node in walk(method):
        if isinstance(node, ast.Assign):
            target = node.targets[0]
            yield last_name(target.elts[0] if isinstance(target, ast.Tuple) else target), node.value
        elif isinstance(node, ast.AugAssign):
            yield last_name(node.target), node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            yield last_name(node.func.value), node.args[0]


def _is_of_loader(node: ast.expr) -> bool:
    if isinstance(node, (ast.List, ast.Tuple)):
        return all(map(_is_of_loader, node.elts))
    is_call = isinstance(node, ast.Call)
    name = last_name(node.func) if isinstance(node, ast.Call) else ""
    return is_call and (
        name == "next" or (unparse(node).startswith(("super()", "super(")) and name == TAKES)
    )
