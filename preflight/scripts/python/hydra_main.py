"""What Hydra and OmegaConf give a training script: `@hydra.main(config_path="conf", config_name="train")` and `OmegaConf.load`.

Source: hydra/main.py and hydra/_internal/utils.py (_run_hydra, compute_search_path_dir) of Hydra 1.3: the folder is beside
the script; `--config-path` names another one, `--config-dir` one of the working directory.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace

from preflight.formats.hydra import UNRESOLVED, NotComposed, composed, read_words, resolved_file
from preflight.launch import LaunchCommand
from preflight.scripts.python.own_words import first_word
from preflight.scripts.python.scope import UNKNOWN, Known, Parsed, Scope
from preflight.scripts.python.values import Evaluator
from preflight.setting import Setting

_PARAMETERS = ("config_path", "config_name")


def configuration(node: ast.expr, scope: Scope, evaluator: Evaluator) -> object:
    """Return what a function is given that Hydra calls; UNKNOWN where a part of it is not here."""
    assert isinstance(node, ast.Call)
    said = dict(zip(_PARAMETERS, node.args, strict=False))
    said |= {each.arg: each.value for each in node.keywords if each.arg is not None}
    path, name = (_text(said.get(each), scope, evaluator) for each in _PARAMETERS)
    if "config_path" not in said and "version_base" not in said:
        path = "."  # as Hydra 1.1 had it, and newer releases have it where no version is asked for
    first = first_word(evaluator.command, scope.path)
    if first is None or UNKNOWN in (path, name):
        return UNKNOWN
    words = read_words(evaluator.command.argv, first)
    path = words.options.get("path", path)
    folder = words.options.get("dir")
    if folder is None and path is not None:
        folder = os.path.join(os.path.dirname(scope.path), str(path))
    name = words.options.get("name", str(name or ""))
    if folder is None and name:
        return UNKNOWN  # what the program registers itself
    try:
        return as_object(composed(evaluator.command, os.path.normpath(folder or "."), name, words))
    except NotComposed:
        return UNKNOWN


def loaded_file(command: LaunchCommand, path: str) -> Parsed | None:
    """Return what `OmegaConf.load` gives of a file; None where it is not here."""
    try:
        return as_object(resolved_file(command, path))
    except NotComposed:
        return None


def of_words(scope: Scope, command: LaunchCommand) -> object:
    """Return what `OmegaConf.from_cli()` gives: the words of the command line that are `key=value`."""
    first = first_word(command, scope.path)
    if first is None:
        return UNKNOWN
    given = read_words(command.argv, first).given
    return as_object({key: setting for sign, key, setting in given if not sign})


def merged(parts: Iterable[object]) -> object:
    """Return what `OmegaConf.merge` makes of several; UNKNOWN where one of them is."""
    result: dict[str, Known] = {}
    for part in parts:
        if not isinstance(part, Parsed):
            return UNKNOWN
        _merge(result, part.names)
    return Parsed(result)


def _merge(into: dict[str, Known], names: Mapping[str, Known]) -> None:
    for name, known in names.items():
        before = into.get(name)
        if (
            before is not None
            and isinstance(before.value, Parsed)
            and isinstance(known.value, Parsed)
        ):
            inner = dict(before.value.names)
            _merge(inner, known.value.names)
            known = Known(Parsed(inner), known.place)
        into[name] = known


def as_object(settings: Mapping[str, Setting]) -> Parsed:
    """Return the object whose attributes dotted keys are."""
    inner: dict[str, dict[str, Setting]] = {}
    names: dict[str, Known] = {}
    for key, setting in settings.items():
        name, dot, rest = key.partition(".")
        if dot:
            inner.setdefault(name, {})[rest] = setting
        else:
            value = UNKNOWN if setting.value is UNRESOLVED else setting.value
            names[name] = Known(Parsed({}) if value == {} else value, setting.place)
    for name, below in inner.items():
        first = next(iter(below.values())).place
        names[name] = Known(as_object(below), replace(first, key=name))
    return Parsed(names)


def _text(node: ast.expr | None, scope: Scope, evaluator: Evaluator) -> object:
    return None if node is None else evaluator.value(node, scope)
