"""Which of two calls of a training script runs first, as far as the lines and the calls between them tell."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from preflight.scripts.files import CallFound
from preflight.scripts.reader import ScriptReader
from preflight.scripts.scope import Scope

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
