"""What scores the completions of a script's online trainer: functions, models that it names, models that it has loaded."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator

from preflight.launch_facts import Uncounted
from preflight.scripts.python.imported_files import LIBRARIES
from preflight.scripts.python.library_classes import dotted
from preflight.scripts.python.nodes import walk
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import Known, Scope
from preflight.scripts.settings.script_settings import ScriptSettings
from preflight.setting import Place

REWARDS = "reward_funcs"
SEVERAL = "several reward models"
NOT_HERE = "a reward function that is not here"
"""It may load a model, as the script's own are seen to do or not."""
NAMED = "reward_model_name_or_path"
TAKE_THEM_SECOND = ("GRPOTrainer", "RLOOTrainer")
"""Trainers whose second argument they are (trl/trainer/grpo_trainer.py, rloo_trainer.py __init__, 0.14.0 to 1.16.0)."""


def read_rewards(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Read the models that `GRPOTrainer(reward_funcs=[...])` is given by name, one of which a plan can hold.

    Functions of the script's own hold no weights; what they call is read where it is loaded. One of a module that is
    neither here nor a library's may load some.
    """
    names: list[tuple[str, Place]] = []
    for call in reader.possible_trainers:
        given = [each.value for each in call.node.keywords if each.arg == REWARDS]
        given += call.node.args[1:2] if call.name in TAKE_THEM_SECOND else []
        for node in given:
            for held, scope in _held(reader, node, call.scope):
                names += _named(reader, held, scope)
                if _is_elsewhere(reader, held, scope.path):
                    place = Place("script", scope.path, REWARDS, held.lineno)
                    settings.uncounted.setdefault(NOT_HERE, Uncounted(place, "more"))
    if len({name for name, _ in names}) > 1:
        settings.uncounted[SEVERAL] = Uncounted(names[1][1], "more")
    elif names:
        settings.put(NAMED, Known(*names[0]))


def _arguments_of(call: ast.expr) -> list[ast.expr]:
    """Return what a list is given in a call: `names.append(name)`."""
    return call.args if isinstance(call, ast.Call) else []


def _held(
    reader: ScriptReader, node: ast.expr, scope: Scope, seen: tuple[ast.expr, ...] = ()
) -> Iterator[tuple[ast.expr, Scope]]:
    """Yield every expression that an argument may hold, through names and lists, with where it stands."""
    if isinstance(node, (ast.List, ast.Tuple)):
        for each in node.elts:
            yield from _held(reader, each, scope, seen)
        return
    holder = scope.holder(node.id) if isinstance(node, ast.Name) else None
    if isinstance(node, ast.Name) and holder is not None and node not in seen:
        grown = [each for call in holder.grown.get(node.id, ()) for each in _arguments_of(call)]
        for each in (*reader.evaluator.may_hold(node.id, holder), *grown):
            yield from _held(reader, each, holder, (*seen, node))
    yield node, scope


def _is_elsewhere(reader: ScriptReader, node: ast.expr, path: str) -> bool:
    """Tell whether an expression uses what a module gives that is neither here nor of a library which is known."""
    for each in walk(node):
        name = dotted(reader, each, path) if isinstance(each, ast.Name) else ""
        root = name.partition(".")[0]
        is_known = root in LIBRARIES or root in sys.stdlib_module_names
        if name and not is_known and not reader.is_here(path, name.rpartition(".")[0] or name):
            return True
    return False


def _named(reader: ScriptReader, node: ast.expr, scope: Scope) -> list[tuple[str, Place]]:
    """Return the model that an expression names, with its line."""
    value = reader.evaluator.value(node, scope)
    if not isinstance(value, str):
        return []
    return [(value, Place("script", scope.path, REWARDS, node.lineno))]
