"""The experiments of this folder, run once on two gloo ranks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("run_effects.py")
LAUNCHER = (
    *(sys.executable, "-m", "torch.distributed.run"),
    *("--standalone", "--nproc-per-node", "2"),
)
TIME_LIMIT_S = 600
"""They take half a minute on two free cores."""


@pytest.fixture(scope="session")
def effects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Return experiment -> what rank 0 measured, or what a library refused with."""
    folder = tmp_path_factory.mktemp("effects")
    env = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    done = subprocess.run(
        [*LAUNCHER, str(SCRIPT)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=env,
        timeout=TIME_LIMIT_S,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines, done.stderr[-4000:]
    found: dict[str, dict[str, Any]] = json.loads(lines[-1])
    for name, result in found.items():
        assert "failed" not in result, f"{name}: {result['failed']}"
    return found
