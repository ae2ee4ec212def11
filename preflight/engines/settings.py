"""What an engine was found to be set to: its part of the plan, and where each value stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from preflight.launch import DeepSpeedSettings
from preflight.setting import Place, Setting
from preflight.values import dataclass

"""Trainers that read TrainingArguments and hold them against DeepSpeed's config."""


@dataclass(frozen=True)
class EngineSettings:
    """The engine's part of the plan."""

    fields: Mapping[str, Setting] = field(default_factory=dict)
    deepspeed: DeepSpeedSettings | None = None
    deepspeed_place: Place = field(default_factory=lambda: Place("default", "", "deepspeed"))
    documents: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    more_places: Mapping[str, tuple[Place, ...]] = field(default_factory=dict)
    """Plan field -> places that state the same value again and must be changed with it."""
    library_names: tuple[str, ...] = ("accelerate", "torch")
    fsdp_arguments: Mapping[str, Setting] = field(default_factory=dict)
    """The trainer's own FSDP arguments; empty where the launcher decides."""
