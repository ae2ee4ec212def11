"""What a person types in front of a program and a shell takes away: assignments, eval, exec."""

from __future__ import annotations

import re
from collections.abc import Sequence

from preflight.lazy_pattern import lazy_pattern

_ASSIGNMENT = lazy_pattern(r"[A-Za-z_][A-Za-z0-9_]*=", re.ASCII)
_IN_PLACE = ("exec", "command", "builtin")
"""Words of a shell that start what follows as it is."""


def as_program(words: Sequence[str]) -> tuple[str, ...]:
    """Return a command as typed in a shell as one that starts a program without a shell.

    `VAR=x torchrun ...` is `env VAR=x torchrun ...`, and `eval TEXT` is `bash -c TEXT`.
    """
    start = 0
    while start < len(words) and _ASSIGNMENT.match(words[start]):
        start += 1
    rest = tuple(words[start:])
    if not rest:
        return tuple(words)
    if len(rest) > 1 and rest[0] in _IN_PLACE and not rest[1].startswith("-"):
        rest = as_program(rest[1:])
    elif len(rest) > 1 and rest[0] == "eval":
        rest = ("bash", "-c", " ".join(rest[1:]))
    return ("env", *words[:start], *rest) if start else rest
