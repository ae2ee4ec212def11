"""A launch written back with other values: new argv, environment and files, and the diff a person sees.

The user's files are never overwritten: every changed file is a copy in `.preflight/`.
The text-level editors (YAML at marks, JSON at marks, argv) are in `preflight.launchers`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from preflight.errors import BadInput
from preflight.values import dataclass

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

    def to_dict(self) -> dict[str, Any]:
        """Return the `rewrite` of the JSON contract."""
        return {
            "argv": list(self.argv),
            "env": dict(self.env),
            "files": [{"path": f.path, "new_path": f.new_path, "diff": f.diff} for f in self.files],
        }


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
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _write(path: str, text: str) -> None:
    from preflight.whole_file import write_whole

    try:
        # The launcher may read the copy on another node, over a network file system.
        write_whole(path, text, is_synced=True, give_name=_name)
    except OSError as error:
        raise _unwritable(path, error) from error


def _name(draft: str, path: str) -> None:
    """Give a complete copy its name, unless another launch took that name for another text meanwhile."""
    try:
        os.link(draft, path)
    except FileExistsError:
        if os.path.isfile(path) and not _are_same(draft, path):
            raise BadInput.one(
                f"{path} was written by another launch just now", path, "run the same command again"
            ) from None
        os.replace(draft, path)
    except OSError:  # A file system without links.
        os.replace(draft, path)


def _are_same(draft: str, path: str) -> bool:
    with open(draft, "rb") as ours, open(path, "rb") as theirs:
        return ours.read() == theirs.read()


def _unwritable(path: str, error: OSError) -> BadInput:
    fix = "make the folder of the launch writable, or start it from one that is"
    if isinstance(error, (FileExistsError, IsADirectoryError)):
        fix = "move it away: preflight keeps its copies there"
    return BadInput.one(f"cannot write {path}: {error.strerror}", path, fix)
