"""Whether what a script makes, a config of packing, an adapter's, a plugin, reaches the call that takes it."""

from __future__ import annotations

import ast

from preflight.scripts.python.files import CallFound
from preflight.scripts.python.nodes import unparse, walk
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN, Known, Scope
from preflight.scripts.settings.script_settings import ScriptSettings
from preflight.setting import Place

_SWITCHES = ("load_in_4bit", "load_in_8bit")


def is_given(reader: ScriptReader, node: ast.expr, scope: Scope) -> bool | None:
    """Tell whether an argument is something, and not None; None where only running tells."""
    if isinstance(node, ast.Constant):
        return node.value is not None
    if isinstance(node, ast.IfExp):
        is_here = unparse(node.test) == "torch.cuda.is_available()"
        # what is judged is a launch on GPUs
        ways = [node.body] if is_here else reader.evaluator.branches(node, scope)
        return _one_of({is_given(reader, way, scope) for way in ways})
    if not isinstance(node, ast.Name):
        return True
    held = [
        is_given(reader, each, scope)
        for each, where in reader.evaluator.may_be(node, scope)
        if where is scope and each.lineno < node.lineno
    ]
    return _one_of({*held}) if held else True


def _one_of(ways: set[bool | None]) -> bool | None:
    return next(iter(ways)) if len(ways) == 1 else None


def is_loaded(reader: ScriptReader, found: CallFound) -> bool:
    """Tell whether anything reads what a call makes: what goes into a variable that nobody asks for again is never used."""
    for node, scope in reader.possible_statements:
        target = node.targets[0]
        if node.value is found.node and isinstance(target, ast.Name) and scope is found.scope:
            return any(
                _asks_for(each, target.id) for tree in reader.trees.values() for each in walk(tree)
            )
    return True


def _asks_for(node: ast.AST, name: str) -> bool:
    if isinstance(node, ast.Name):
        return node.id == name and isinstance(node.ctx, ast.Load)
    if isinstance(node, (ast.ImportFrom, ast.Import)):
        return any(each.name in (name, "*") for each in node.names)
    return isinstance(node, ast.Attribute) and node.attr == name


def note_whole(
    reader: ScriptReader, settings: ScriptSettings, is_packed: bool | None, place: Place
) -> None:
    """Record that what a script says of packing does not reach the model that it loads, or may not."""
    if is_packed is True or "quantization" not in settings.seen:
        return
    for name in _SWITCHES:
        if name in settings.arguments:
            settings.put(name, Known(UNKNOWN if is_packed is None else False, place))


def never_made(reader: ScriptReader, settings: ScriptSettings, name: str, argument: str) -> None:
    """Note that a script which can make an adapter or a quantized model does not for this command line."""
    made = [found for found in reader.everywhere if found.name == name]
    is_said = argument in settings.arguments or reader.flag_of([argument]) is not None
    if made and argument not in settings.unread and not is_said:
        settings.put(argument, Known(False, reader.place(made[0])))
