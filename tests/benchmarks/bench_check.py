"""Measures `preflight check` on a 70B ZeRO-3 launch of 16 ranks against `python -c pass`.

    python tests/benchmarks/bench_check.py [NUM_ROUNDS]

Both are timed in turn, so a busy machine slows both. Memory is the kernel's own high-water mark of
the process (VmHWM), read at its end: `ru_maxrss` would carry over what its parent had before exec.
"""

from __future__ import annotations

import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

COMMAND = shlex.split(
    "accelerate launch --config_file zero3.yaml train.py"
    " --model_name_or_path meta-llama/Llama-3.1-70B --per_device_train_batch_size 1"
    " --gradient_accumulation_steps 4 --gradient_checkpointing True --max_length 4096 --bf16 True"
)
CHECK = ["check", "--device", "h100-sxm-80", "--", *COMMAND]

WATCHED = """
import atexit, json, os, sys

def report():
    status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
    facts = {"peak_kib": int(status["VmHWM"].split()[0]), "num_modules": len(sys.modules),
             "num_own_modules": len([name for name in sys.modules if name.startswith("preflight.")]),
             "heavy": sorted({"torch", "accelerate", "transformers", "deepspeed"} & set(sys.modules))}
    os.write(int(sys.argv[1]), json.dumps(facts).encode())

atexit.register(report)
from preflight.cli import main
sys.exit(main(sys.argv[2:]))
"""


@dataclass(frozen=True)
class CheckCost:
    """What one check took beside its answer."""

    exit_code: int
    verdict: str
    peak_kib: int
    num_modules: int
    num_own_modules: int
    """Modules of preflight among them, its hooks too."""
    heavy: tuple[str, ...]
    """Libraries that must never be imported, and were."""


def check_cost(python: str = sys.executable) -> CheckCost:
    """Run one check and return what it held at most and which heavy libraries it imported."""
    reader, writer = os.pipe()
    done = subprocess.run(
        [python, "-c", WATCHED, str(writer), CHECK[0], "--format", "json", *CHECK[1:]],
        cwd=HERE / "zero3-70b",
        capture_output=True,
        text=True,
        pass_fds=[writer],
    )
    os.close(writer)
    with os.fdopen(reader) as pipe:
        told = pipe.read()
    assert told, done.stderr
    facts: dict[str, Any] = json.loads(told)
    assert done.stdout, done.stderr
    return CheckCost(
        done.returncode,
        json.loads(done.stdout)["verdict"],
        facts["peak_kib"],
        facts["num_modules"],
        facts["num_own_modules"],
        tuple(facts["heavy"]),
    )


def seconds_of(argv: list[str]) -> float:
    """Return the wall time of one process, from its start to its end."""
    # pip compiles what it installs; an editable install compiles at the first import, if it may.
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    subprocess.run(
        argv, cwd=HERE / "zero3-70b", env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return time.perf_counter() - started


def medians(num_rounds: int) -> tuple[float, float]:
    """Return the median seconds of `python -c pass` and of the check, timed in turn."""
    command = [str(Path(sys.executable).parent / "preflight"), *CHECK]
    seconds_of(command)  # warms the disk cache and the compiled modules
    empty, check = [], []
    for _ in range(num_rounds):
        empty.append(seconds_of([sys.executable, "-c", "pass"]))
        check.append(seconds_of(command))
    return statistics.median(empty), statistics.median(check)


def main() -> None:
    num_rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 21
    cost = check_cost()
    empty, check = medians(num_rounds)
    rows = [
        ("verdict", cost.verdict),
        ("python -c pass", f"{empty * 1000:.1f} ms"),
        ("preflight check", f"{check * 1000:.1f} ms"),
        ("times python -c pass", f"{check / empty:.1f} (at most 6)"),
        ("peak memory", f"{cost.peak_kib / 1024:.1f} MiB (under 45 MB)"),
        ("modules imported", str(cost.num_modules)),
        ("heavy libraries", ", ".join(cost.heavy) or "none"),
        ("rounds", str(num_rounds)),
    ]
    for name, value in rows:
        print(f"{name:<22}{value}")


if __name__ == "__main__":
    main()
