"""A value under the user's own spelling, with the place where it is written."""

from __future__ import annotations

from typing import Any

from preflight.notebooks import place_of
from preflight.values import dataclass


@dataclass(frozen=True)
class Place:
    """Where a value is written, so that it can be written again."""

    kind: str
    """yaml, json, toml, argv, env, script, default, flags: of a file of them, or shipped: of a framework's own file, which is
    not here."""
    document: str
    """The file's path as the user spelled it, a training script's too; empty for argv, env and default."""
    key: str
    """Dotted key path in a file, flag spelling in argv, name of the variable in env, library and version of a default."""
    line: int | None = None
    """1-based."""
    index: int | None = None
    """Index of the flag in argv."""

    @property
    def where(self) -> str:
        """Return the place as an Origin or an error names it."""
        if self.kind in ("yaml", "json", "toml", "script", "flags", "shipped"):
            return self.document if self.line is None else place_of(self.document, self.line)
        if self.kind == "env":
            return f"${self.key}"
        if self.kind == "default":
            return f"default of {self.key}"
        return self.key


@dataclass(frozen=True)
class Setting:
    """One value under the user's spelling, with its place."""

    value: Any
    place: Place
