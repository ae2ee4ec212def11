"""What the reader of a launch leaves behind for its writer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from preflight.command import LaunchCommand
from preflight.setting import Place
from preflight.values import dataclass


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
