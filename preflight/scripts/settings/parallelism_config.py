"""How ranks are divided where a script makes accelerate's ParallelismConfig: the degrees that it has and nobody else says.

Handed to Accelerator, or to the arguments of a Trainer, it is what the launcher's own `parallelism_config` would be; a
size that the call leaves out is the launcher's, and 1 without one (accelerate/parallelism_config.py __post_init__, 1.15).
"""

from __future__ import annotations

import ast

from preflight.scripts.python.files import CallFound
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.settings.made_and_given import is_given, is_loaded
from preflight.scripts.settings.script_settings import ScriptSettings
from preflight.setting import Setting
from preflight.shell.starters.variables import PARALLELISM_SIZES

MAKES = "ParallelismConfig"
_ARGUMENT = "parallelism_config"
_LOADS_DIVIDED = "tp_plan"
"""The argument that loads a model in parts: without it nothing divides its matrices."""


def read_parallelism_config(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Record the variables that the one config of a script stands for, where it surely reaches what takes it and each of
    its sizes is known; else its words stay signs (preflight/scripts/uncounted/uncounted.py)."""
    made = reader.named(MAKES)
    if len(made) != 1 or reader.maybe(MAKES) or not is_loaded(reader, made[0]):
        return
    (call,) = made
    values, is_open = reader.keywords(call)
    sizes = {each: values[each] for each in PARALLELISM_SIZES.values() if each in values}
    said = {name: known for name, known in sizes.items() if known.value is not None}
    if is_open or call.node.args or not _is_taken(reader):
        return
    if not all(isinstance(known.value, int) for known in said.values()):
        return
    if said.get("tp_size") is None or said["tp_size"].value == 1 or _loads_divided(reader):
        place = reader.place(call)
        settings.environment["ACCELERATE_USE_PARALLELISM_CONFIG"] = Setting("true", place)
        for variable, name in PARALLELISM_SIZES.items():
            if name in said:
                settings.environment[variable] = Setting(str(said[name].value), said[name].place)


def _is_taken(reader: ScriptReader) -> bool:
    """Tell whether one call that surely runs takes the config, and no other may."""
    takers = [(call, given) for call in reader.calls for given in _handed(call)]
    others = [given for call in reader.unsure for given in _handed(call)]
    return (
        len(takers) == 1
        and not others
        and is_given(reader, takers[0][1], takers[0][0].scope) is True
    )


def _handed(call: CallFound) -> list[ast.expr]:
    return [each.value for each in call.node.keywords if each.arg == _ARGUMENT]


def _loads_divided(reader: ScriptReader) -> bool:
    """Tell whether a script has that argument, as a keyword or as a key of some."""
    return any(
        _LOADS_DIVIDED in (getattr(node, "arg", None), getattr(node, "value", None))
        for node in reader.nodes
        if isinstance(node, (ast.keyword, ast.Constant))
    )
