"""Measures many submissions at once, on a real Slurm with emulated nodes: the slowest, and how many were judged.

    python tests/benchmarks/bench_burst.py [NUMBER ...]

Each number is submitted with PREFLIGHT=off and with the client's guard as it is installed, in turn.
"""

from __future__ import annotations

import collections
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench_slurm import Bench, Cluster

NUMBERS = (200,)
TIMEOUT_S = 10


def burst(bench: Bench, number: int, **env: str) -> tuple[list[float], collections.Counter[str]]:
    """Start so many submissions together; return how long each took, and what stamps their jobs have."""
    starts = {}
    running = []
    for _ in range(number):
        started = time.perf_counter()
        process = bench.sbatch(True, "job.sh", **env)
        starts[process.pid] = started
        running.append(process)
    took = []
    while starts:
        pid, status = os.wait()
        if pid in starts:
            assert status == 0, status
            took.append(time.perf_counter() - starts.pop(pid))
    for process in running:
        process.returncode = 0
        if process.stderr:
            process.stderr.close()
    jobs = bench.cluster.output("scontrol", "-o", "show", "job")
    stamps = collections.Counter(re.findall(r" Extra=preflight=(?:1,)?(not-judged,\w+|\w+)", jobs))
    bench.cluster.cancel_all()
    return sorted(took), stamps


def main() -> None:
    numbers = [int(word) for word in sys.argv[1:]] or NUMBERS
    root = Path(tempfile.mkdtemp(prefix="preflight-bench-"))
    cluster = Cluster(root)
    try:
        cluster.start()
        bench = Bench(cluster)
        bench.seconds(True, "job.sh")  # warms the disk cache
        cluster.cancel_all()
        for number in numbers:
            for name, env in (("off", {"PREFLIGHT": "off"}), ("guard", {})):
                took, stamps = burst(bench, number, **env)
                judged = sum(stamps.values()) - sum(
                    count for stamp, count in stamps.items() if stamp.startswith(("not", "off"))
                )
                print(
                    f"{number} at once, {name:6} slowest {took[-1]:.1f} s,"
                    f" middle {statistics.median(took):.1f} s, judged {judged / number:.0%}"
                    f" (timeout {TIMEOUT_S} s)  {dict(stamps)}",
                    flush=True,
                )
    finally:
        cluster.stop()
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
