"""A value under the user's own spelling with the place it is written, and what a reader leaves behind for its writer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from preflight.launch import LaunchCommand
from preflight.values import dataclass


@dataclass(frozen=True)
class Place:
    """Where a value is written, so that it can be written again."""

    kind: str
    """yaml, json, toml, argv, env, script or default."""
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
        if self.kind in ("yaml", "json", "toml", "script"):
            return self.document if self.line is None else f"{self.document}:{self.line}"
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


@dataclass(frozen=True)
class LaunchSource:
    """What the writer of a launch needs: goes in LaunchPlan.source."""

    command: LaunchCommand
    launcher: str
    first_option: int
    """argv index of the first launcher option."""
    script_index: int
    """argv index of the training script (or of the module after -m)."""
    places: Mapping[str, tuple[Place, ...]] = field(default_factory=dict)
    """Plan field (dotted for nested: `deepspeed.reduce_bucket_size`) -> every place that states it, the deciding one first."""
    documents: Mapping[str, str] = field(default_factory=dict)
    """Role -> path as spelled: accelerate (YAML or JSON), deepspeed (JSON), trainer (argument file)."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else decides how a value is spelled: fsdp_version, trainer, its version, whether the config is the default one."""


def script_text(source: object) -> str:
    """Return the training script, empty where it cannot be read."""
    if not isinstance(source, LaunchSource) or source.script_index >= len(source.command.argv):
        return ""
    try:
        return source.command.read_text(source.command.argv[source.script_index])
    except (OSError, UnicodeDecodeError):
        return ""
