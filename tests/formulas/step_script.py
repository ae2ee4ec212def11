"""Runs a script that takes real steps of several cases in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path

from ranks import ForkHost


def counted_of(ranks: ForkHost, script: Path, cases: dict[str, dict], folder: Path) -> dict:
    """Return what a script counted of every case; it must end well."""
    printed = ranks.printed(script, json.dumps(cases), str(folder), world=0)
    results: dict[str, dict] = json.loads(printed.splitlines()[-1])
    return results
