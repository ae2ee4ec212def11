"""Ranks of real process groups for tests: scripts started on gloo, and what their first rank printed."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fork_client import ask, exit_code

HOST = Path(__file__).parent / "launches" / "worker" / "fork_host.py"
LIMIT_S = 900.0
"""By the clock, on a machine that may be busy with other tests."""
GRACE_S = 10.0
"""A rank whose peer has failed waits for it; after so long it is ended."""
ENVIRONMENT = {
    "DS_ACCELERATOR": "cpu",
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "GLOO_SOCKET_IFNAME": "lo",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
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


class ForkHost:
    """A process that has the libraries imported and forks ranks; started when the first is asked for."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._folder = tempfile.mkdtemp(prefix="preflight-ranks-")

    @property
    def address(self) -> str:
        """The path of the socket that it listens at."""
        path = f"{self._folder}/socket"
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, str(HOST), path],
                env=self._environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert self._process.stdout is not None
            assert self._process.stdout.readline(), "the libraries could not be imported"
        return path

    def stop(self) -> None:
        """End the process, where it was started."""
        if self._process is not None:
            self._process.communicate(timeout=60)

    def printed(self, script: Path, *arguments: str, world: int, stdin: str = "") -> str:
        """Return what the first rank of a script printed; every rank must end well."""
        ended = self.run(script, *arguments, world=world, stdin=stdin)
        assert set(ended.exit_codes) == {0}, f"{ended.exit_codes}\n{ended.stderr[-8000:]}"
        return ended.stdout

    def run(self, script: Path, *arguments: str, world: int, stdin: str = "") -> Ended:
        """Run a script as so many ranks, or as one process of no group where `world` is 0."""
        port = free_port()
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            Path(folder, "stdin").write_text(stdin)
            ranks = range(max(world, 1))
            running = [
                ask(
                    self.address,
                    {
                        "argv": [str(script), *arguments],
                        "env": self._environment() | rank_variables(rank, world, port),
                        "cwd": folder,
                    },
                    files,
                )
                for rank in ranks
                for files in self._files(Path(folder), rank)
            ]
            codes = wait_for(running)
            errors = [Path(folder, f"stderr-{rank}").read_text() for rank in ranks]
            return Ended(codes, Path(folder, "stdout-0").read_text(), "\n".join(errors))

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(OF_A_LAUNCH)}
        return {**kept, **ENVIRONMENT}

    @staticmethod
    def _files(folder: Path, rank: int) -> Iterator[list[int]]:
        """Give the files of a rank: what it reads, and where it writes."""
        with contextlib.ExitStack() as stack:
            read = stack.enter_context(Path(folder, "stdin").open("rb"))
            out = stack.enter_context(Path(folder, f"stdout-{rank}").open("wb"))
            err = stack.enter_context(Path(folder, f"stderr-{rank}").open("wb"))
            yield [read.fileno(), out.fileno(), err.fileno()]


def rank_variables(rank: int, world: int, port: int) -> dict[str, str]:
    """Return what torchrun sets for a rank of one node; nothing where there are no ranks."""
    if world == 0:
        return {}
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    return {
        **{name: str(value) for name, value in numbers.items()},
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def wait_for(running: list[socket.socket]) -> tuple[int, ...]:
    """Return the exit codes of ranks; one that hangs, or waits for another that failed, is ended and has -9."""
    codes: dict[socket.socket, int] = {}
    deadline = time.monotonic() + LIMIT_S
    while left := [rank for rank in running if rank not in codes]:
        ready, _, _ = select.select(left, [], [], max(0.0, deadline - time.monotonic()))
        for rank in ready:
            codes[rank] = exit_code(rank)
            if codes[rank] != 0:
                deadline = min(deadline, time.monotonic() + GRACE_S)
        if not ready:
            codes.update(dict.fromkeys(left, -9))
    for rank in running:
        rank.close()  # which ends it
    return tuple(codes[rank] for rank in running)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
