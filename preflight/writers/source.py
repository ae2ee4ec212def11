"""What the reader of a launch hands to its writer, in `LaunchPlan.source`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from preflight.setting import Place
from preflight.shell.starters.launcher_part import LauncherPart
from preflight.values import dataclass


@dataclass(frozen=True)
class LaunchSource:
    """The launcher's half of a launch, and where every plan field is stated."""

    part: LauncherPart
    places: Mapping[str, tuple[Place, ...]] = field(default_factory=dict)
    """Plan field (dotted for nested: `deepspeed.reduce_bucket_size`) -> every place that states it, the deciding one first."""
