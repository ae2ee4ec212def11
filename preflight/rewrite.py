"""A launch written back with other values: new argv, environment and files, and the diff a person sees.

The user's files are never overwritten: every changed file is a copy in `.preflight/`.
The text-level editors (YAML at marks, JSON at marks, argv) are in `preflight.launchers`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any, TypeVar

from preflight.errors import BadInput
from preflight.files import Seen, changed_since, read_bytes
from preflight.trust import VARIABLE, NotTrusted, make_folder
from preflight.values import dataclass

if TYPE_CHECKING:
    from preflight.launch import LaunchPlan

Done = TypeVar("Done")

MOST_TRIES = 20
"""As many launches of one folder may start at once."""
FOLDER = ".preflight"
"""Where copies go, below the folder of the launch."""


@dataclass(frozen=True)
class RewrittenFile:
    """A changed copy of one file of the launch."""

    path: str
    """The user's file, as the user spelled it."""
    new_path: str
    """Where the copy goes: absolute, below `.preflight/` of the launch's folder."""
    before: str
    after: str

    @property
    def diff(self) -> str:
        """Unified diff between the user's file and the copy."""
        import difflib

        return "".join(
            line if line.endswith("\n") else line + "\n"
            for line in difflib.unified_diff(
                self.before.splitlines(keepends=True),
                self.after.splitlines(keepends=True),
                self.path,
                self.new_path_shown,
                n=1,
            )
        )

    @property
    def new_path_shown(self) -> str:
        """The copy's path from `.preflight/` on."""
        _, mark, tail = self.new_path.rpartition(".preflight/")
        return mark + tail if mark else self.new_path


@dataclass(frozen=True)
class Rewrite:
    """The rewritten launch."""

    argv: tuple[str, ...]
    files: tuple[RewrittenFile, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables that are set for the launcher on top of the caller's environment."""
    argv_diff: tuple[tuple[str, str], ...] = ()
    """(removed, added) pairs of flags, for people; one side may be empty."""
    plan: LaunchPlan | None = field(default=None, compare=False, repr=False)
    """What was asked for, in other releases as it is read again; None where it was not read."""

    def to_dict(self) -> dict[str, Any]:
        """Return the `rewrite` of the JSON contract."""
        return {
            "argv": list(self.argv),
            "env": dict(self.env),
            "files": [{"path": f.path, "new_path": f.new_path, "diff": f.diff} for f in self.files],
        }


class JudgeAgain(BadInput):
    """What was judged is no longer what would be started; told only where judging again never ends."""


def until_settled(attempt: Callable[[], Done]) -> Done:
    """Judge and start again where meanwhile another launch took a copy's name, or a file that was read changed."""
    again = JudgeAgain()
    for _ in range(MOST_TRIES):
        try:
            return attempt()
        except JudgeAgain as error:
            again = error
    raise again


def refuse_changed(seen: Mapping[str, Seen]) -> None:
    """Raise JudgeAgain where a file is no longer what was read: what is started is what was judged."""
    for path in changed_since(seen)[:1]:
        raise JudgeAgain.one(
            f"{path} changes while it is judged", path, "start it when nobody writes there"
        )


def free_path(path: str, text: str) -> str:
    """Return the first of NAME, NAME-2, ... that is not there, or holds this text already."""
    stem, extension = os.path.splitext(path)
    found, number = path, 1
    while os.path.lexists(found) and not _holds(found, text.encode("utf-8", "surrogateescape")):
        number += 1
        found = f"{stem}-{number}{extension}"
    return found


def save_rewrite(rewrite: Rewrite) -> None:
    """Write every copy, whole or not at all; raise BadInput where one cannot be written.

    A copy appears under its name only when it is complete, and nothing is started after a BadInput.
    """
    for file in rewrite.files:
        folder = os.path.dirname(file.new_path)
        _make_folder(folder)
        _write(file.new_path, file.after)
        ignore = os.path.join(folder, ".gitignore")
        if os.path.basename(folder) == FOLDER and not os.path.lexists(ignore):
            _write(ignore, "*\n")


def _make_folder(folder: str) -> None:
    if os.path.islink(folder):
        # A link could lead anywhere: a shared folder, the user's own configs.
        raise BadInput.one(
            f"{folder} is a symbolic link; preflight writes copies into a folder of its own only",
            folder,
            "remove the link",
        )
    try:
        make_folder(folder)
    except NotTrusted as distrust:
        raise BadInput.one(
            f"{folder} is no place for a copy that is started: {distrust.reason}",
            folder,
            f"move it away, or trust it: {VARIABLE}={distrust.folder}",
        ) from distrust
    except OSError as error:
        raise _unwritable(folder, error) from error


def _write(path: str, text: str) -> None:
    from preflight.whole_file import write_whole

    try:
        # The launcher may read the copy on another node, over a network file system.
        write_whole(path, text, is_synced=True, give_name=_name, most=0o644)
    except OSError as error:
        raise _unwritable(path, error) from error


def _name(draft: str, path: str) -> None:
    """Give a complete copy its name, unless another launch took that name for another text meanwhile."""
    try:
        os.link(draft, path)
    except FileExistsError:
        if not os.path.isfile(path):
            os.replace(draft, path)
        elif not _holds(path, read_bytes(draft)):
            raise JudgeAgain.one(
                f"{path} was written by another launch just now", path, "run the same command again"
            ) from None
    except OSError:  # A file system without links.
        os.replace(draft, path)


def _holds(path: str, data: bytes) -> bool:
    try:
        return read_bytes(path) == data
    except OSError:
        return False


def _unwritable(path: str, error: OSError) -> BadInput:
    fix = "make the folder of the launch writable, or start it from one that is"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        fix = "make room there, or start it from a folder on another disk"
    if isinstance(error, (FileExistsError, IsADirectoryError)):
        fix = "move it away: preflight keeps its copies there"
    return BadInput.one(f"cannot write {path}: {error.strerror}", path, fix)
