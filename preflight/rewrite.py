"""A launch written back with other values: new argv, environment and files, and the diff a person sees.

The user's files are never overwritten: every changed file is a copy in `.preflight/`.
The text-level editors (YAML at marks, JSON at marks, argv) are in `preflight.dialects`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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
        head, mark, tail = self.new_path.rpartition(".preflight/")
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
            "files": [
                {"path": f.path, "new_path": f.new_path, "diff": f.diff} for f in self.files
            ],
        }
