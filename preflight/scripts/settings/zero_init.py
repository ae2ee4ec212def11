"""Whether a training script makes its model after DeepSpeed is told of: under ZeRO-3 it is partitioned as it is made then.

Told too late, or never, deepspeed.initialize moves the whole model to every GPU before it divides it
(DeepSpeedEngine._configure_distributed_model, deepspeed/runtime/engine.py, 0.19.8).
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping

from preflight.scripts.python.class_meanings import PARSES_DATACLASSES
from preflight.scripts.python.dataclass_fields import dataclass_types
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.nodes import last_name, unparse
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import Scope

MAKES_CONFIG = ("Accelerator", "HfDeepSpeedConfig", "HfTrainerDeepSpeedConfig")
"""What tells transformers of DeepSpeed beside the Trainer's arguments: from then on ZeRO-3 is on for from_pretrained
(accelerate/utils/dataclasses.py:1488, transformers/integrations/deepspeed.py:79; 1.15.0 and 5.24.0)."""
OWN_CONTEXT = "Init"
"""deepspeed.zero.Init, under which whatever is made is partitioned."""


def is_partitioned(reader: ScriptReader, loading: Iterable[CallFound]) -> bool | None:
    """Tell whether every model that may train is partitioned as it is made; None where that is not known.

    `loading` are the calls of transformers that make it, one or one of several.
    """
    answers = {_is_partitioned(reader, call) for call in loading}
    return answers.pop() if len(answers) == 1 else None


def _is_partitioned(reader: ScriptReader, loading: CallFound) -> bool | None:
    own = [call for call in reader.calls if _is_own_context(call)]
    if any(runs_before(reader, call, loading) for call in own):
        return True
    is_on = zero3_is_on(reader, loading)
    may_be_own = own or any(_is_own_context(call) for call in reader.unsure)
    return None if may_be_own and is_on is False else is_on


def makes_partitioned(reader: ScriptReader) -> bool:
    """Tell whether a script may make a model under deepspeed.zero.Init itself."""
    return any(map(_is_own_context, reader.everywhere))


def _is_own_context(call: CallFound) -> bool:
    return call.name == OWN_CONTEXT and unparse(call.node.func).endswith("zero.Init")


def zero3_is_on(reader: ScriptReader, loading: CallFound) -> bool | None:
    """Tell whether transformers knows of DeepSpeed when a model is loaded; None where the order is not known."""
    makers = list(_makers(reader, reader.calls))
    if any(runs_before(reader, maker, loading) for maker in makers):
        return True
    unsure = _makers(reader, reader.unsure)
    is_after = all(runs_before(reader, maker, loading) is False for maker in (*makers, *unsure))
    return False if is_after else None


def _makers(reader: ScriptReader, calls: Iterable[CallFound]) -> Iterable[CallFound]:
    """Return the calls that tell transformers of DeepSpeed."""
    makes_arguments = reader.trainer_names()
    parsed = {
        last_name(node)
        for found in reader.everywhere
        if found.name in reader.dataclass_parsers
        for node in dataclass_types(found.node, found.scope)
    }
    names = {
        *MAKES_CONFIG,
        *makes_arguments,
        *(PARSES_DATACLASSES if parsed & makes_arguments else ()),
    }
    return [found for found in calls if found.name in names]


MAX_CALLERS = 12
"""Functions that call one another; also what ends a circle."""

Step = tuple[Scope, int, int]
"""A scope, and the line and the column of the call in it that leads on."""


def runs_before(reader: ScriptReader, first: CallFound, second: CallFound) -> bool | None:
    """Tell whether a call runs before another one; None where the script does not say.

    Each is followed to where the script starts, by functions that are called in one place; what counts is the first
    scope in which the two ways part.
    """
    names = {id(scope): name for name, held in reader.functions.items() for _, scope in held}
    ways = _way(reader, first, names), _way(reader, second, names)
    for (scope, *mine), (other, *theirs) in zip(*ways, strict=False):
        if scope is not other:
            return None
        if mine != theirs:
            return mine < theirs
    return None


def _way(reader: ScriptReader, found: CallFound, names: Mapping[int, str]) -> list[Step]:
    """Return the calls that lead to a call, the outermost first and itself last."""
    way: list[Step] = []
    current: CallFound | None = found
    while current is not None and len(way) < MAX_CALLERS:
        way.insert(0, (current.scope, current.node.lineno, current.node.col_offset))
        name = names.get(id(current.scope))
        if name is None:
            return way
        sites = [
            site
            for site in reader.everywhere
            if isinstance(site.node.func, ast.Name) and site.node.func.id == name
        ]
        is_one = len(sites) == 1 and len(reader.functions[name]) == 1
        current = sites[0] if is_one else None
    return way
