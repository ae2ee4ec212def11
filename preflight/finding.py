"""Something about a launch that a person should know before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from preflight.values import dataclass


@dataclass(frozen=True)
class Finding:
    """One check that fired."""

    id: str
    """Stable: PF1xx launch, PF2xx FSDP, PF3xx DeepSpeed, PF4xx precision and PEFT, PF5xx host and network."""
    name: str
    """Kebab-case, for people: `ignored-key`."""
    severity: str
    """error (the library refuses, or training is wrong), warning, info."""
    message: str
    where: str = ""
    fix: str = ""
    edits: Mapping[str, Any] = field(default_factory=dict)
    """The fix in plan fields, where there is one."""
