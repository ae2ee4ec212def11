"""The command line of preflight in a workplace, and devices made to measure."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness import BIN, Launched, Workplace, environment, launch

ROOMY_DEVICE = "tiny:1.9"
"""Everything here fits it; below 2 GiB a device is a budget for a CPU test, without a CUDA context."""

ASKED = ("--allow", "micro_batch", "--forbid", "offload_optimizer")
"""By estimate a smaller micro batch of a tiny model takes more than half as much time again: asked for, it is started;
states in host memory take a little less, and are another test's."""

GIB = 2**30


class Preflight:
    """The command line of preflight in one workplace."""

    def __init__(self, workplace: Workplace, folder: Path) -> None:
        self.workplace = workplace
        self.folder = folder
        self.num_launches = 0
        self.variables: dict[str, str] = {}
        """What every launch is started with."""

    def check(
        self,
        command: list[str],
        device: str = ROOMY_DEVICE,
        settings: Mapping[str, object] | None = None,
    ) -> dict[str, Any]:
        """Return the JSON of `preflight check`."""
        set_options = [f"--set={name}={value}" for name, value in (settings or {}).items()]
        check = [str(BIN / "preflight"), "check", "--format", "json", *ASKED]
        done = subprocess.run(
            [*check, "--device", device, *set_options, "--", *command],
            cwd=self.workplace.path,
            env=environment(self.folder / "unused", "check", is_probed=False),
            capture_output=True,
            text=True,
        )
        assert done.returncode in (0, 1), done.stdout + done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    def run(self, command: list[str], device: str) -> Launched:
        """Start a launch through `preflight run`."""
        return self.start(
            [str(BIN / "preflight"), "run", "--device", device, *ASKED, "--", *command]
        )

    def start(self, argv: list[str], cpu_ranks: bool = True) -> Launched:
        """Start any command with the probe in it."""
        self.num_launches += 1
        probe_dir = self.folder / f"probe-{self.num_launches}"
        return launch(argv, self.workplace, probe_dir, cpu_ranks, self.variables)


def device_between(low_bytes: int, high_bytes: int, share: float = 0.5) -> str:
    """Return a device whose capacity lies between two estimates, at a share of the way up."""
    assert low_bytes < high_bytes
    return f"tiny:{(low_bytes + share * (high_bytes - low_bytes)) / GIB:.6f}"
