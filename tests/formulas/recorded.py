"""Rows of what steps took, which scripts here print in environments of their own: a file of JSON lines each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def recorded(name: str) -> list[dict[str, Any]]:
    """Return the rows of a file that lies beside the tests."""
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]
