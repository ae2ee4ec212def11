"""Ranks of real process groups for tests: scripts started on gloo, and what their first rank printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HOST = Path(__file__).with_name("rank_host.py")
LIMIT_S = 900.0
"""By the clock, on a machine that may be busy with other tests."""
ENVIRONMENT = {
    "DS_ACCELERATOR": "cpu",
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "GLOO_SOCKET_IFNAME": "lo",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}
OF_A_LAUNCH = ("ACCELERATE_", "FSDP_", "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_")


@dataclass(frozen=True)
class Ended:
    """How the ranks of a script ended."""

    exit_codes: tuple[int, ...]
    stdout: str
    """Of the first rank."""
    stderr: str
    """Of all ranks."""


class RankHost:
    """A process that has the libraries imported and forks ranks; started when the first is asked for."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def printed(self, script: Path, *arguments: str, world: int, **options: object) -> str:
        """Return what the first rank of a script printed; every rank must end well."""
        ended = self.run(script, *arguments, world=world, **options)  # type: ignore[arg-type]
        assert set(ended.exit_codes) == {0}, f"{ended.exit_codes}\n{ended.stderr[-8000:]}"
        return ended.stdout

    def run(
        self,
        script: Path,
        *arguments: str,
        world: int,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
        cwd: Path | None = None,
    ) -> Ended:
        """Run a script as so many ranks, or as one process of no group where `world` is 0."""
        with tempfile.TemporaryDirectory(prefix="preflight-ranks-") as folder:
            if stdin is not None:
                Path(folder, "stdin").write_text(stdin)
            request = {
                "argv": [str(script), *arguments],
                "world": world,
                "env": dict(env or {}),
                "stdin": None if stdin is None else f"{folder}/stdin",
                "cwd": str(cwd or folder),
                "out": folder,
                "seconds": LIMIT_S,
            }
            codes = self._ask(request)
            errors = [Path(folder, f"stderr-{rank}").read_text() for rank in range(len(codes))]
            return Ended(tuple(codes), Path(folder, "stdout-0").read_text(), "\n".join(errors))

    def stop(self) -> None:
        """End the process, where it was started."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(timeout=60)

    def _ask(self, request: Mapping[str, object]) -> list[int]:
        if self._process is None:
            kept = {k: v for k, v in os.environ.items() if not k.startswith(OF_A_LAUNCH)}
            self._process = subprocess.Popen(
                [sys.executable, str(HOST)],
                env={**kept, **ENVIRONMENT},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the process that forks ranks has ended"
        codes: list[int] = json.loads(answer)
        return codes
