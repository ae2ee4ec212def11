"""The experiments of this folder, run once on two gloo ranks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ranks import ForkHost

SCRIPT = Path(__file__).with_name("run_effects.py")


@pytest.fixture(scope="session")
def effects(ranks: ForkHost) -> dict[str, dict[str, Any]]:
    """Return experiment -> what rank 0 measured, or what a library refused with."""
    printed = ranks.printed(SCRIPT, world=2)
    lines = [line for line in printed.splitlines() if line.startswith("{")]
    found: dict[str, dict[str, Any]] = json.loads(lines[-1])
    for name, result in found.items():
        assert "failed" not in result, f"{name}: {result['failed']}"
    return found
