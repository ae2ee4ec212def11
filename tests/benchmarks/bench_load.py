"""Measures how time and memory grow with what a command is given: a table with the exponent between sizes.

    python tests/benchmarks/bench_load.py [--factor F] [NAME ...]

Each command runs as a process of its own, in processor time and the most memory that it had; what an empty
one takes is subtracted from the times, not from the memory. `--factor 0.1` takes a tenth of the sizes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

RUN = """\
import json, resource, subprocess, sys
done = subprocess.run([sys.executable, "-m", "preflight", *sys.argv[1:]], stdout=-3, stderr=-3)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, done.returncode]))
"""
MODEL = (
    "--model_name_or_path",
    "meta-llama/Llama-3.1-8B",
    "--max_length",
    "2048",
    "--bf16",
    "True",
)
TRAINER = "from trl import SFTConfig, SFTTrainer, ModelConfig, TrlParser\nparser = TrlParser((SFTConfig, ModelConfig))\n"
LAUNCH = ("accelerate", "launch", "--num_processes", "8")
CHECK = ("check", "--device", "h100-sxm-80", "--")
PLAN = {"model": "meta-llama/Llama-3.1-8B", "engine": "ddp", "micro_batch_size": 1, "seq_len": 512}
RECORD = {
    "schema": 1,
    "rank": 0,
    "world_size": 1,
    "host": "here",
    "outcome": "done",
    "device": {"name": "NVIDIA H100 80GB HBM3", "kind": "cuda", "capacity_bytes": 2**36},
    "phases": {
        name: {"allocated": 2**34, "reserved": 2**35, "device": 2**35}
        for name in ("load", "forward", "backward", "optimizer_step", "second_step", "save")
    },
    "predicted": {
        name: {"allocated": 2**34, "reserved": 2**35, "device": 2**35}
        for name in ("load", "forward", "backward", "optimizer_step", "second_step", "save")
    },
    "predicted_runtime": {"CUDA context": 2**29},
    "outside_bytes": 2**29,
    "plan": {**PLAN, "world_size": 1, "mixed_precision": "bf16", "optimizer": "adamw_torch"},
    "versions": {"torch": "2.11.0", "transformers": "5.24.0"},
}


def deepspeed_keys(folder: Path, number: int) -> tuple[str, ...]:
    config = {"bf16": {"enabled": True}, "zero_optimization": {"stage": 2}}
    more = {f"key_{at}": {"a": at} for at in range(number // 2)}
    (folder / "ds.json").write_text(json.dumps({**config, **more}, indent=1))
    words = ("--use_deepspeed", "--deepspeed_config_file", "ds.json", "train.py", *MODEL)
    return (*CHECK, *LAUNCH, *words)


def accelerate_keys(folder: Path, number: int) -> tuple[str, ...]:
    lines = [f"key_{at}: {at}" for at in range(number)]
    (folder / "acc.yaml").write_text("distributed_type: MULTI_GPU\n" + "\n".join(lines) + "\n")
    return (*CHECK, *LAUNCH, "--config_file", "acc.yaml", "train.py", *MODEL)


def flags(folder: Path, number: int) -> tuple[str, ...]:
    return (*CHECK, *LAUNCH, "train.py", *MODEL, *(f"--flag_{at}={at}" for at in range(number)))


def scan(folder: Path, number: int) -> tuple[str, ...]:
    for at in range(number):
        place = folder / f"part{at // 200}"
        place.mkdir(exist_ok=True)
        (place / f"file{at}.py").write_text("x = 1\n" * 20)
    for at in range(number // 100):  # of which 400 are read
        (folder / f"run{at}.sh").write_text(f"#!/bin/bash\ntorchrun train.py {' '.join(MODEL)}\n")
    return ("scan",)


def validate(folder: Path, number: int) -> tuple[str, ...]:
    run = {"group": "g", "plan": PLAN, "device": {"key": "h100-sxm-80"}}
    measured = {"outcome": "value", "counter": "allocated", "peak_bytes": 2**34}
    runs = [{"id": f"r{at}", **run, "measured": measured} for at in range(number)]
    (folder / "runs.json").write_text(json.dumps({"schema": 1, "runs": runs}))
    return ("validate", "runs.json")


def dataset(folder: Path, number: int) -> tuple[str, ...]:
    with open(folder / "rows.jsonl", "w") as file:
        for at in range(number):
            file.write(json.dumps({"input_ids": [1] * (at % 300)}) + "\n")
    return ("check", "--device", "h100-sxm-80", "--dataset", "rows.jsonl", "--", *LAUNCH, "train.py", *MODEL)  # fmt: skip


def history(folder: Path, number: int) -> tuple[str, ...]:
    text = json.dumps(RECORD, separators=(",", ":"))[1:]
    with open(folder / "runs-here.jsonl", "w") as file:
        for at in range(number):
            moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1_700_000_000 + 20 * at))
            file.write(f'{{"run_id":"run{at}","started":"{moment}",{text}\n')
    return ("history", "--folder", ".")


def job_script(folder: Path, number: int) -> tuple[str, ...]:
    lines = "".join(f"export NAME_{at}=value_{at}\n" for at in range(number))
    (folder / "run.sh").write_text(f"#!/bin/bash\n{lines}torchrun train.py {' '.join(MODEL)}\n")
    return ("scan", "--device", "h100-sxm-80", "run.sh")


LOADS: dict[str, tuple[Callable[[Path, int], tuple[str, ...]], tuple[int, ...]]] = {
    "deepspeed_keys": (deepspeed_keys, (12_500, 25_000, 50_000, 100_000)),
    "accelerate_keys": (accelerate_keys, (25_000, 50_000, 100_000)),
    "flags": (flags, (2_500, 10_000, 40_000)),
    "scan": (scan, (10_000, 40_000)),
    "job_script": (job_script, (1_000, 4_000)),  # `scan` reads no more of one
    "validate": (validate, (200, 2_000, 20_000)),
    "dataset": (dataset, (10_000, 100_000, 400_000)),
    "history": (history, (10_000, 100_000, 1_000_000)),
}


def measure(make: Callable[[Path, int], tuple[str, ...]], number: int) -> tuple[float, int, int]:
    """Return seconds of processor time, the most memory in bytes, and the exit code."""
    folder = Path(tempfile.mkdtemp(prefix="preflight-load-"))
    try:
        (folder / "train.py").write_text(TRAINER)
        words = make(folder, number)
        done = subprocess.run(
            [sys.executable, "-c", RUN, *words],
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        seconds, num_bytes, code = json.loads(done.stdout)
        return seconds, num_bytes, code
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=list(LOADS))
    parser.add_argument("--factor", type=float, default=1.0)
    options = parser.parse_args()
    os.nice(5)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print(f"{'':<16}{'size':>10}{'CPU s':>9}{'exponent':>10}{'MB':>8}{'exponent':>10}  exit code")
    for name in options.names:
        make, sizes = LOADS[name]
        base, _, _ = measure(make, 10)
        before: tuple[int, float, int] | None = None
        for size in sizes:
            number = max(20, int(size * options.factor))
            seconds, num_bytes, code = measure(make, number)
            own = max(seconds - base, 0.001)
            powers = ["", ""]
            if before is not None:
                ratio = math.log(number / before[0])
                powers = [
                    f"{math.log(own / before[1]) / ratio:.2f}",
                    f"{math.log(num_bytes / before[2]) / ratio:.2f}",
                ]
            print(
                f"{name:<16}{number:>10,}{seconds:>9.2f}{powers[0]:>10}"
                f"{num_bytes / 1e6:>8.0f}{powers[1]:>10}  {code}",
                flush=True,
            )
            before = number, own, num_bytes


if __name__ == "__main__":
    main()
