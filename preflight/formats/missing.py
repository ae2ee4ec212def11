"""What is said of a config file that is not there, and which names a person is to fill in: `your-config.yaml`, `$CONFIG`."""

from __future__ import annotations

import os
import re
from dataclasses import replace

from preflight.errors import BadInput, Problem
from preflight.files import wrong_kind
from preflight.launch import LaunchCommand
from preflight.lazy_pattern import lazy_pattern
from preflight.near_names import nearest_beside, nearest_file_fix

TO_FILL_IN = "PF125"
"""The finding of a launch that is not read, under which such a name is told."""
UNREAD = {TO_FILL_IN: "a config file that is not named", "PF131": "a launch that was not read"}
"""Findings of what preflight cannot read, which is no mistake of the launch -> what the estimate leaves out for each."""
_STANDS_FOR = lazy_pattern(
    r"[<>{}$]|\.\.\.|\[.*\]|(^|[^a-z])(your|my)[-_. ]|path[-_/]to\b|(^|[^a-z])(x{3,}|y{3,})($|[^a-z])",
    re.IGNORECASE,
)
_ALL_CAPITALS = lazy_pattern(r"[A-Z][A-Z0-9_]*")


def no_config(command: LaunchCommand, path: str, kind: str, where: str, id: str) -> Problem:
    """Return what to say of a config file that a launch names and cannot read; `kind` is its word: `DeepSpeed config`."""
    absent = not_here(command, path, where) if path else None
    if absent is not None:
        return absent
    wrong = wrong_kind(command.resolve(path)) if path else "has no name"
    is_named = wrong in ("does not exist", "is a folder")
    fix = nearest_file_fix(path, command.resolve(path)) if is_named else ""
    return Problem(f"the {kind} {path!r} {wrong}", where, fix, id)


def not_here(command: LaunchCommand, path: str, where: str) -> Problem | None:
    """Return what to say of a path that a person is to fill in, or that lies in a folder which is not here; None of one
    that should be here."""
    if is_to_fill_in(path):
        return to_fill_in(path, where)
    folder = _folder_elsewhere(command, path)
    if not folder and command.in_container and command.inside(command.resolve(path)) is None:
        folder = "the image of its container"
    if not folder:
        return None
    message = f"{path} is not read: {folder} is not on this machine"
    fix = "run preflight where the launch starts, or name a copy"
    return Problem(message, where, fix, TO_FILL_IN, unpriced="a config file that is not here")


def refuse_address(path: str) -> None:
    """Raise the error of a config that a framework would fetch: it cannot be read here, and is no mistake."""
    if path.startswith(("http://", "https://")):
        message = "the config is on the net: preflight reads files only"
        unpriced = "a config file that is not here"
        raise BadInput(Problem(message, path, "download it first", TO_FILL_IN, unpriced=unpriced))


_ON_EVERY_MACHINE = tuple((each,) for each in ("home", "Users", "mnt", "media", "opt", "srv"))
"""Folders at the root whose own folders are one machine's: users, mounts and what is installed beside the system (Filesystem
Hierarchy Standard 3.0, 3.8 to 3.17)."""


def _folder_elsewhere(command: LaunchCommand, path: str) -> str:
    """Return the uppermost folder of a path that is not here: `/workspace`, `/home/user` or `/mnt/data` of a container or a
    compute node, `examples` of a copy of another repository. Empty where only what is deeper is missing, or where a folder here
    has nearly that name, as behind a slip of the pen."""
    from pathlib import PurePosixPath  # most launches have their files

    folders = PurePosixPath(path).parts[:-1]
    if folders[:1] == ("/",):
        depths = (2, 3) if folders[1:2] in _ON_EVERY_MACHINE else (2,)
    else:
        depths = (next((i for i, part in enumerate(folders, 1) if part != ".."), 0),)
    upper = [str(PurePosixPath(*folders[:depth])) for depth in depths if 0 < depth <= len(folders)]
    absent = next((each for each in upper if not os.path.exists(command.resolve(each))), "")
    return "" if absent and nearest_beside(command.resolve(absent)) else absent


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


def only_unread(error: BadInput) -> tuple[Problem, ...]:
    """Return the notices of a launch that is wrong in nothing but what preflight cannot read: names that are to be filled in,
    and what stands around the launcher. Raise the error of any other."""
    errors = [problem for problem in error.problems if problem.severity == "error"]
    if any(problem.id not in UNREAD for problem in errors):
        raise error
    return tuple(
        replace(
            problem,
            severity="warning",
            unpriced=problem.unpriced or UNREAD[problem.id],
            takes="either",
        )
        for problem in errors
    )
