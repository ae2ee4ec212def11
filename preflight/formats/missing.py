"""What is said of a config file that is not there, and which names a person is to fill in: `your-config.yaml`, `$CONFIG`."""

from __future__ import annotations

import re
from dataclasses import replace

from preflight.errors import BadInput, Problem
from preflight.files import wrong_kind
from preflight.launch import LaunchCommand
from preflight.near_names import nearest_file_fix

TO_FILL_IN = "PF125"
"""The finding of a launch that is not read, under which such a name is told."""
_STANDS_FOR = re.compile(
    r"[<>{}$]|\.\.\.|\[.*\]|(^|[^a-z])(your|my)[-_. ]|path[-_/]to\b|(^|[^a-z])(x{3,}|y{3,})($|[^a-z])",
    re.IGNORECASE,
)
_ALL_CAPITALS = re.compile(r"[A-Z][A-Z0-9_]*")


def no_config(command: LaunchCommand, path: str, kind: str, where: str, id: str) -> Problem:
    """Return what to say of a config file that a launch names and cannot read; `kind` is its word: `DeepSpeed config`."""
    if path and is_to_fill_in(path):
        return to_fill_in(path, where)
    wrong = wrong_kind(command.resolve(path)) if path else "has no name"
    is_named = wrong in ("does not exist", "is a folder")
    fix = nearest_file_fix(path, command.resolve(path)) if is_named else ""
    return Problem(f"the {kind} {path!r} {wrong}", where, fix, id)


def is_to_fill_in(path: str) -> bool:
    """Tell whether a path that names no file here stands where a person puts one, as words of a document do."""
    return (
        _STANDS_FOR.search(path) is not None
        or _ALL_CAPITALS.fullmatch(path) is not None
        or not any(letter.isascii() and letter.isalnum() for letter in path)
    )


def to_fill_in(path: str, where: str) -> Problem:
    """Return what is said of such a name, as the error of a file that cannot be read."""
    message = f"{path} stands for a config file, so nothing is known of the launch"
    return Problem(message, where, "name the file", TO_FILL_IN)


def only_to_fill_in(error: BadInput) -> tuple[Problem, ...]:
    """Return the notices of a launch that is wrong in nothing but names that are to be filled in; raise the error of any
    other."""
    errors = [problem for problem in error.problems if problem.severity == "error"]
    if any(problem.id != TO_FILL_IN for problem in errors):
        raise error
    return tuple(
        replace(
            problem, severity="warning", unpriced="a config file that is not named", takes="either"
        )
        for problem in errors
    )
