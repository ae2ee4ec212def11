"""Measures what an installed guard that is off costs: a launch by torchrun, an import of torch, and Python's own start.

    python tests/benchmarks/bench_guard.py [NUM_ROUNDS]

Each is timed with the guard's doors and without them, in turn, in processor time. What
takes the doors away is a `sitecustomize` that hides our entry point, and for the file at start-up an
environment without it; everything else is the same. The ratio is of the least times: noise only adds.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path

BIN = Path(sys.executable).parent

WITHOUT = """\
import importlib.metadata as metadata
stock = metadata.entry_points
def entry_points(**wanted):
    found = stock(**wanted)
    if wanted.get("group") != "torchrun.handlers":
        return found
    return metadata.EntryPoints(point for point in found if point.name != "preflight")
metadata.entry_points = entry_points
"""
WITH = WITHOUT.replace('if point.name != "preflight"', "if True").replace(
    'point.name != "preflight"', "True"
)
"""The same work, which hides nothing."""


def seconds(argv: list[str], environment: dict[str, str], folder: Path) -> float:
    """Return the processor time of a program and of all that it started: waiting for others does not count."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, env=environment, cwd=folder, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def compare(
    name: str, with_it: Callable[[], float], without: Callable[[], float], rounds: int
) -> None:
    """Print the least and the middle times of both, and the ratio of the least."""
    own, other = [], []
    for number in range(rounds):
        for call, kept in ((with_it, own), (without, other))[:: 1 if number % 2 else -1]:
            kept.append(call())
    print(
        f"{name:34} with {min(own):.4f} s (middle {statistics.median(own):.4f}),"
        f" without {min(other):.4f} s (middle {statistics.median(other):.4f}),"
        f" ratio {min(own) / min(other):.3f}",
        flush=True,
    )


def main(rounds: int) -> None:
    """Print the three comparisons."""
    place = Path(tempfile.mkdtemp())
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFLIGHT")}
    kept.update(OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    environments = []
    for name, text in (("with", WITH), ("without", WITHOUT)):
        (place / name).mkdir()
        (place / name / "sitecustomize.py").write_text(text)
        environments.append({**kept, "PYTHONPATH": str(place / name)})
    ours, others = environments
    (place / "worker.py").write_text("pass\n")
    launch = [str(BIN / "torchrun"), "--nproc_per_node", "1", "worker.py"]
    load = [sys.executable, "-c", "import torch.distributed.elastic.rendezvous"]
    for name, argv in (("torchrun, one worker", launch), ("import torch's rendezvous", load)):
        compare(
            name,
            lambda argv=argv: seconds(argv, ours, place),
            lambda argv=argv: seconds(argv, others, place),
            rounds,
        )
    pythons = []
    for name in ("guarded", "plain"):
        venv.create(place / name, symlinks=True, with_pip=False)
        python = place / name / "bin" / "python"
        asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
        site = Path(subprocess.check_output([python, "-c", asked], text=True).strip())
        (site / "packages.pth").write_text(
            f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
        )
        pythons.append(str(python))
    guarded, plain = pythons
    install = [guarded, "-m", "preflight", "guard", "--install"]
    subprocess.run(install, check=True, capture_output=True)
    for name, words in (("python -c pass", ["-c", "pass"]), ("python report.py", ["worker.py"])):
        compare(
            f"{name}, the file",
            lambda words=words: seconds([guarded, *words], kept, place),
            lambda words=words: seconds([plain, *words], kept, place),
            10 * rounds,
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
