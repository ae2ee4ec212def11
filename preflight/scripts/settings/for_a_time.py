"""What attributes of a script's objects hold while a callback of its trainer runs, and at no other time."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from preflight.scripts.python.nodes import parameters_of, walk
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN, Known
from preflight.scripts.python.set_back import SetBack
from preflight.setting import Place


def held_for_a_time(reader: ScriptReader) -> tuple[Mapping[str, Known], Place | None]:
    """Return the most that attributes hold which callbacks set and put back, and where the first does; UNKNOWN for what is no
    number, or only running tells."""
    untaken = {id(inner) for _, node in reader.untaken for inner in walk(node)}
    held: dict[str, Known] = {}
    for attribute, statements in reader.set_back.items():
        for each in statements:
            if each.puts_back or id(each.statement) in untaken:
                continue
            values = [_given(reader, each)]
            values += [held[attribute].value] if attribute in held else []
            numbers = [value for value in values if isinstance(value, int)]
            most = max(numbers) if len(numbers) == len(values) else UNKNOWN
            held[attribute] = Known(
                most, Place("script", each.path, attribute, each.statement.lineno)
            )
    return held, next((known.place for known in held.values()), None)


def _given(reader: ScriptReader, each: SetBack) -> object:
    """Return what a statement of a callback sets, where that is written there or an argument: a trainer hands its callbacks
    its own arguments first."""
    value = each.statement.value
    if isinstance(value, ast.Constant):
        return value.value
    if not isinstance(value, ast.Attribute) or not isinstance(value.value, ast.Name):
        return UNKNOWN
    owner, changed = value.value.id, reader.evaluator.changed_attributes
    if value.attr in changed or not (
        [owner] == parameters_of(each.method)[:1] or owner.endswith("args")
    ):
        return UNKNOWN
    said = [names[value.attr].value for names in reader.arguments() if value.attr in names]
    return said[0] if len(said) == 1 else UNKNOWN
