"""The classes of transformers and TRL that a training script's arguments and trainer are made of.

A rule of a library's class holds for values that this class reads, as it is or through a class of the script's own
that calls it; a class of the script's own that stands on another one has no rules that we know.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Callable, Iterable, Iterator

from preflight.plan_choices import HF_TRAINERS
from preflight.scripts.python.dataclass_fields import TRAINER_BASES, dataclass_types
from preflight.scripts.python.files import CallFound, ScriptFiles
from preflight.scripts.python.nodes import last_name, unparse, walk

MAX_BASES = 16
"""Classes above one another; also what ends a cycle."""
SET_UP = ("__init__", "__post_init__")
"""Methods in which a library's class checks what it was given."""
ON_THEIRS = (*HF_TRAINERS, "sentence_transformers")
"""Libraries whose trainers, and the arguments of these, are transformers' or stand on them."""


def library_classes(files: ScriptFiles, calls: Iterable[CallFound] | None = None) -> frozenset[str]:
    """Return the classes of libraries behind the parsers, the arguments and the trainers that a script makes.

    Each is its library's and its own name, `trl.SFTConfig`; those of the script's own are followed to what they stand on.
    `calls` are those that a command line reaches; all of them where none are given.
    """
    found: set[str] = set()
    for call in files.everywhere if calls is None else calls:
        if call.name in files.dataclass_parsers:
            for node in dataclass_types(call.node, call.scope):
                found |= stands_on(files, node, call.scope.path)
        elif files.makes_trainer(call) or _makes_arguments(files, call.node, call.scope.path):
            found |= stands_on(files, call.node.func, call.scope.path)
    return frozenset(found)


def loads_model(files: ScriptFiles) -> bool:
    """Tell whether a script loads a model anywhere, and not its tokenizer alone."""
    return any(
        call.name in ("from_pretrained", "from_config")
        and isinstance(call.node.func, ast.Attribute)
        and re.search(r"Model|For[A-Z]", last_name(call.node.func.value)) is not None
        for call in files.everywhere
    )


def _makes_arguments(files: ScriptFiles, call: ast.Call, path: str) -> bool:
    name = last_name(call.func)
    return name in TRAINER_BASES or files.class_of(name, path) is not None


def stands_on(files: ScriptFiles, node: ast.expr, path: str) -> frozenset[str]:
    """Return the classes of libraries that surely set up an object of a class: itself, or what it is derived from."""
    bases = _bases(files, node, path, lambda cls: all(map(_calls_above, _set_ups(cls))))
    libraries = ((name, name.partition(".")[0]) for name in bases)
    return frozenset(
        f"{library}.{name.rpartition('.')[2]}"
        for name, library in libraries
        if library in HF_TRAINERS
    )


def is_anothers(files: ScriptFiles, name: str, path: str) -> bool:
    """Tell whether a class of a file surely stands on none of transformers' and TRL's: on one of another library, or on none."""
    bases = {*_bases(files, ast.Name(name), path, lambda cls: True)}
    return not any(name == "" or name.partition(".")[0] in ON_THEIRS for name in bases)


def _bases(
    files: ScriptFiles,
    node: ast.expr,
    path: str,
    goes_on: Callable[[ast.ClassDef], bool],
    depth: int = 0,
) -> Iterator[str]:
    """Yield what a class is, or stands on, that is none of the script's own: dotted names, empty where nothing tells."""
    held = files.class_of(node.id, path) if isinstance(node, ast.Name) else None
    if held is None:
        is_plain = isinstance(node, ast.Name) and node.id in vars(builtins)
        yield f"builtins.{unparse(node)}" if is_plain else dotted(files, node, path)
        return
    cls, scope = held
    for base in cls.bases if depth < MAX_BASES and goes_on(cls) else ():
        if not (isinstance(base, ast.Name) and base.id == cls.name):
            yield from _bases(files, base, scope.path, goes_on, depth + 1)


def dotted(files: ScriptFiles, node: ast.expr, path: str) -> str:
    """Return what a name means where it is imported, `transformers.TrainingArguments`; empty where it is not."""
    root, _, rest = unparse(node).partition(".")
    imported = files.libraries.get(path, {})
    if root in imported:
        return f"{imported[root]}.{rest}" if rest else imported[root]
    if any(name.startswith(f"{root}.") for name in imported):
        return unparse(node)  # import torch.optim
    return f"{imported['*'].partition('.')[0]}.{root}" if "*" in imported and not rest else ""


def _set_ups(cls: ast.ClassDef) -> Iterator[ast.FunctionDef]:
    for node in cls.body:
        if isinstance(node, ast.FunctionDef) and node.name in SET_UP:
            yield node


def _calls_above(method: ast.FunctionDef) -> bool:
    """Tell whether a method calls the one of the same name above it, `super().__init__(...)` or `Base.__init__(self)`."""
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == method.name
        for node in walk(method)
    )
