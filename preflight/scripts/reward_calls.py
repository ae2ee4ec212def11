"""What scores the completions of a script's online trainer: functions, models that it names, models that it has loaded."""

from __future__ import annotations

import ast

from preflight.launch_facts import Uncounted
from preflight.scripts.reader import ScriptReader
from preflight.scripts.scope import Known, Scope
from preflight.scripts.script_settings import ScriptSettings
from preflight.setting import Place

REWARDS = "reward_funcs"
SEVERAL = "several reward models"
NAMED = "reward_model_name_or_path"
TAKE_THEM_SECOND = ("GRPOTrainer", "RLOOTrainer")
"""Trainers whose second argument they are (trl/trainer/grpo_trainer.py, rloo_trainer.py __init__, 0.14.0 to 1.16.0)."""


def read_rewards(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Read the models that `GRPOTrainer(reward_funcs=[...])` is given by name, one of which a plan can hold.

    Functions of the script's own hold no weights; what they call is read where it is loaded.
    """
    names: list[tuple[str, Place]] = []
    for call in (*reader.calls, *reader.unsure):
        given = [each.value for each in call.node.keywords if each.arg == REWARDS]
        given += call.node.args[1:2] if call.name in TAKE_THEM_SECOND else []
        for node in given if reader.makes_trainer(call) else ():
            names += _named(reader, node, call.scope)
    if len({name for name, _ in names}) > 1:
        settings.uncounted[SEVERAL] = Uncounted(names[1][1], "more")
    elif names:
        settings.put(NAMED, Known(*names[0]))


def _arguments_of(call: ast.expr) -> list[ast.expr]:
    """Return what a list is given in a call: `names.append(name)`."""
    return call.args if isinstance(call, ast.Call) else []


def _named(reader: ScriptReader, node: ast.expr, scope: Scope) -> list[tuple[str, Place]]:
    """Return the models that an expression names, each with its line, through names and lists."""
    if isinstance(node, (ast.List, ast.Tuple)):
        return [found for each in node.elts for found in _named(reader, each, scope)]
    if isinstance(node, ast.Name):
        holder = scope.holder(node.id)
        held = [] if holder is None else list(reader.evaluator.may_hold(node.id, holder))
        lists = [each for each in held if isinstance(each, (ast.List, ast.Tuple))]
        if holder is not None and lists:
            grown = [each for call in holder.grown.get(node.id, ()) for each in _arguments_of(call)]
            return [found for each in (*lists, *grown) for found in _named(reader, each, holder)]
    value = reader.evaluator.value(node, scope)
    if not isinstance(value, str):
        return []
    return [(value, Place("script", scope.path, REWARDS, node.lineno))]
