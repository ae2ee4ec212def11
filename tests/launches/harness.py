"""Starts a launch for real on the CPU and collects what every process and rank wrote down.

The exit code alone proves nothing: a launch whose ranks never met exits 0 as several unsharded
trainings. `Launched.ranks` holds the probe of each rank, `Launched.processes` every Python process.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
TINY_LLAMA = REPOSITORY / "examples" / "tiny-llama"
BIN = Path(sys.executable).parent

LAUNCH = (str(BIN / "accelerate"), "launch")
ACCELERATE_LAUNCH = (str(BIN / "accelerate-launch"),)
MODULE_LAUNCH = (sys.executable, "-m", "accelerate.commands.launch")
"""Three spellings of one launcher."""

TIME_LIMIT_S = 300
"""A cold DeepSpeed compiles one C++ operator first, half a minute on two cores."""


@dataclass(frozen=True)
class Workplace:
    """A folder with copies of the configs, the scripts and the model, as a user's would look."""

    path: Path

    def command(
        self, config: str, script: str, arguments: Iterable[str], launcher: Iterable[str] = LAUNCH
    ) -> list[str]:
        """Return the argv of a launch, with relative paths."""
        return [*launcher, "--config_file", config, script, *arguments]

    def contents(self) -> dict[str, bytes]:
        """Return the user's files: everything but what a run makes."""
        return {
            str(file.relative_to(self.path)): file.read_bytes()
            for file in sorted(self.path.rglob("*"))
            if file.is_file()
            and not {".preflight", "__pycache__", "out"} & set(file.relative_to(self.path).parts)
        }


def make_workplace(path: Path) -> Workplace:
    """Copy what a launch reads into a folder of its own."""
    shutil.copytree(HERE / "configs", path, dirs_exist_ok=True)
    for script in TINY_LLAMA.glob("*.py"):
        shutil.copy(script, path)
    (path / "tiny-llama").mkdir()
    shutil.copy(TINY_LLAMA / "config.json", path / "tiny-llama")
    return Workplace(path)


@dataclass(frozen=True)
class Launched:
    """How a launch ended."""

    exit_code: int
    stdout: str
    stderr: str
    seconds: float
    ranks: tuple[dict[str, Any], ...]
    """One probe per rank, in rank order."""
    processes: tuple[dict[str, Any], ...]
    """Every Python program that started, in order; an exec starts a second one in the same process."""
    left_pids: tuple[int, ...] = field(default=())
    """Processes of this launch that were alive when it had ended."""

    @property
    def plan_seen(self) -> dict[str, Any]:
        """What the ranks got, in plan words; they must agree."""
        plans = [rank["plan"] for rank in self.ranks]
        assert plans, f"no rank wrote a probe\n{self.stderr[-4000:]}"
        assert all(plan == plans[0] for plan in plans), plans
        return dict(plans[0])

    @property
    def workers(self) -> tuple[dict[str, Any], ...]:
        """Processes that ran a training script, whatever came of them."""
        return tuple(p for p in self.processes if _runs_training(p["argv"]))


def _runs_training(argv: list[str]) -> bool:
    """Tell a worker (`python -u train.py ...`) from a launcher (`python accelerate launch ... train.py`)."""
    programs = [argument for argument in argv[1:] if not argument.startswith("-")]
    return bool(programs) and os.path.basename(programs[0]).startswith("train_")


def environment(
    probe_dir: Path, run_id: str, cpu_ranks: bool = True, is_probed: bool = True
) -> dict[str, str]:
    """Return the environment of a launch on the CPU, with the probe in every Python process."""
    # Nothing that this process was launched with may reach the ranks.
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ACCELERATE_", "FSDP_", "PREFLIGHT_", "DS_"))
        and name not in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    }
    paths = [str(HERE / "worker"), *filter(None, [kept.get("PYTHONPATH")])]
    return {
        **kept,
        "PATH": os.pathsep.join([str(BIN), kept.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join(paths),
        "PREFLIGHT_TEST_CPU_RANKS": "1" if cpu_ranks else "0",
        "PREFLIGHT_TEST_PROBE": str(probe_dir) if is_probed else "",
        "PREFLIGHT_TEST_RUN": run_id,
        "PREFLIGHT_TEST_HIDDEN": "bitsandbytes",  # peft imports it, and it torch._inductor: seconds a rank
        "DS_ACCELERATOR": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "GLOO_SOCKET_IFNAME": "lo",
    }


def launch(
    argv: list[str],
    workplace: Workplace,
    probe_dir: Path,
    cpu_ranks: bool = True,
    variables: Mapping[str, str] | None = None,
) -> Launched:
    """Run a command in the workplace to its end, with more variables set, and read the probes."""
    probe_dir.mkdir(parents=True)
    run_id = uuid.uuid4().hex
    started = time.monotonic()
    process = subprocess.Popen(
        argv,
        cwd=workplace.path,
        env={**environment(probe_dir, run_id, cpu_ranks), **(variables or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        stdout, stderr = process.communicate(timeout=TIME_LIMIT_S)
    except subprocess.TimeoutExpired:
        for pid in pids_of_run(run_id):
            os.kill(pid, 9)
        stdout, stderr = process.communicate()
        raise AssertionError(f"not done after {TIME_LIMIT_S} s\n{stdout}\n{stderr}") from None
    seconds = time.monotonic() - started
    left = pids_of_run(run_id)
    for pid in left:
        os.kill(pid, 9)
    return Launched(
        process.returncode,
        stdout,
        stderr,
        seconds,
        _read_all(probe_dir, "rank-*.json"),
        _read_all(probe_dir, "process-*.json"),
        tuple(left),
    )


def _read_all(folder: Path, pattern: str) -> tuple[dict[str, Any], ...]:
    """Read JSON files in the order of the number that ends their names."""
    files = sorted(folder.glob(pattern), key=lambda file: int(file.stem.rsplit("-", 1)[1]))
    return tuple(json.loads(file.read_text()) for file in files)


def pids_of_run(run_id: str) -> list[int]:
    """Return the live processes whose environment names this run.

    Torch's elastic agent gives each worker a session of its own, so neither the process group nor
    the session finds an orphan; the environment does.
    """
    mark = f"PREFLIGHT_TEST_RUN={run_id}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environ = (entry / "environ").read_bytes()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue  # it ended while we looked, or it is not ours to read
        if mark in environ.split(b"\0") and state != "Z":
            found.append(int(entry.name))
    return found


def is_listening(port: int) -> bool:
    """Tell whether somebody accepts connections on a local port."""
    with socket.socket() as client:
        client.settimeout(2)
        return client.connect_ex(("127.0.0.1", port)) == 0
