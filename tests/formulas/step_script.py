"""Runs a script that takes real steps of several cases in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def counted_of(script: Path, cases: dict[str, dict], folder: Path, limit_s: float) -> dict:
    """Return what a script counted of every case; it must end well within the limit."""
    command = [sys.executable, str(script), json.dumps(cases), str(folder)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    ended = subprocess.run(
        command, capture_output=True, text=True, env=environment, check=False, timeout=limit_s
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    results: dict[str, dict] = json.loads(ended.stdout.splitlines()[-1])
    return results
