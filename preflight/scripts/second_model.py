"""A model that a script loads beside the one that it trains: a teacher, a judge, an encoder of images, a reward."""

from __future__ import annotations

import ast
import re

from preflight.scripts.files import CallFound, last_name
from preflight.scripts.library_classes import dotted
from preflight.scripts.model_calls import BESIDE
from preflight.scripts.reader import ScriptReader
from preflight.setting import Place

SECOND_MODEL = "a model beside the one that trains"
_NO_WEIGHTS = re.compile(
    r"Token\w*er|Process|Config|Extractor|Schedul|Peft|Template|^(?:[a-z_]|T5Block)"
)
"""Classes whose from_pretrained reads no model, or puts an adapter on one; and names that may hold any class."""


def model_beside(reader: ScriptReader, trained: Place | None) -> Place | None:
    """Return where a script loads a model that it does not train; None where nothing shows one.

    `trained` is where it loads the one that trains, None where that is not known: then a name has to say it. What is
    loaded under the trained model's name is another way to load it, and what comes after its deletion takes its place.
    """
    loads = [found for found in (*reader.calls, *reader.unsure) if _loads(reader, found)]
    if not loads or (len(loads) == 1 and reader.place(loads[0]) == trained):
        return None
    names = _names(reader)
    trains = {names.get(id(each.node), "") for each in loads if reader.place(each) == trained}
    for found in loads:
        name = names.get(id(found.node), "")
        is_other = trained is not None and reader.place(found) != trained and name not in trains
        is_named = BESIDE.search(name) is not None
        if name and (is_other or is_named) and not _replaces(reader, found):
            return reader.place(found)
    return None


def _loads(reader: ScriptReader, found: CallFound) -> bool:
    """Tell whether a call loads weights: from_pretrained of a model's class, or a pipeline that is not given a model."""
    func = found.node.func
    if found.name == "from_pretrained" and isinstance(func, ast.Attribute):
        name = last_name(func.value)
        return bool(name) and not _NO_WEIGHTS.search(name) and name not in reader.classes
    if (
        found.name != "pipeline"
        or dotted(reader, func, found.scope.path) != "transformers.pipeline"
    ):
        return False
    given = [each.value for each in found.node.keywords if each.arg == "model"]
    given += found.node.args[1:2]
    return all(isinstance(each, ast.Constant) for each in given)


def _names(reader: ScriptReader) -> dict[int, str]:
    """Return id of a call -> the last part of the name that holds what it gives."""
    return {
        id(node): last_name(statement.targets[0])
        for statement, _ in (*reader.statements, *reader.unsure_statements)
        for node in ast.walk(statement.value)
        if isinstance(node, ast.Call)
    }


def _replaces(reader: ScriptReader, found: CallFound) -> bool:
    """Tell whether something is deleted before a call in its own block, as the trained model is before it is merged."""
    return any(
        isinstance(node, ast.Delete) and node.lineno < found.node.lineno
        for node in reader.body_of(found.scope)
    )
