"""What one launch of torchtitan is told, whatever file or function says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from preflight.setting import Place, Setting
from preflight.values import dataclass


@dataclass(frozen=True)
class TitanConfig:
    """What one launch of torchtitan is told."""

    version: str
    given: Mapping[str, Setting] = field(default_factory=dict)
    """`section.key` -> value; a flag beats the file."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """section -> key -> what holds where nobody says."""
    path: str | None = None
    entry: Mapping[str, Any] | None = None
    """The table of a named Python config."""
    module: str = ""
    overrides: Mapping[str, int] = field(default_factory=dict)
    copied_from: Place | None = None
    """The function of a checkout that gives the entry; None where it is that of a release."""
    is_extended: bool = False
    """A module of one's own adds keys."""

    def default(self, key: str) -> Any:
        section, _, name = key.partition(".")
        return self.defaults.get(section, {}).get(name)
