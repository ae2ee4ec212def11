"""What an engine was found to be set to: its part of the plan, and where each value stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from preflight.launch import DeepSpeedSettings, EngineFacts, Origin
from preflight.setting import Place, Setting
from preflight.values import dataclass


@dataclass(frozen=True)
class EngineSettings:
    """The engine's part of the plan."""

    fields: Mapping[str, Setting] = field(default_factory=dict)
    deepspeed: DeepSpeedSettings | None = None
    deepspeed_place: Place = field(default_factory=lambda: Place("default", "", "deepspeed"))
    documents: Mapping[str, str] = field(default_factory=dict)
    facts: EngineFacts = field(default_factory=EngineFacts)
    deepspeed_file: Setting | None = None
    """What names DeepSpeed's file, whoever does."""
    more_places: Mapping[str, tuple[Place, ...]] = field(default_factory=dict)
    """Plan field -> places that state the same value again and must be changed with it."""
    library_names: tuple[str, ...] = ("accelerate", "torch")
    origins: Mapping[str, Origin] = field(default_factory=dict)
    """Where a field comes from, where its place does not say all of it."""
    fsdp_arguments: Mapping[str, Setting] = field(default_factory=dict)
    """The trainer's own FSDP arguments; empty where the launcher decides."""
