"""Trains some forty small models on the GPU of this machine, and writes what they took as measured runs.

    python -m tests.gpu [--out runs-gpu.yaml] [--only NAME ...] [--seconds 500] [--snapshots FOLDER]
    preflight validate runs-gpu.yaml

Needs torch, transformers, accelerate and peft; bitsandbytes, liger_kernel and flash_attn have cases of their own.
Weights are random and nothing is downloaded. Each training is a process of its own, because a CUDA context is made
once. `--device cpu` rehearses the same code with the smallest models, counting live storages alone.

Written without a GPU: every case was rehearsed on a CPU, none was ever run on a GPU (2026-11).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from preflight.devices.driver import nvidia_cards
from preflight.units import format_gib

from .cases import Case, cases
from .training import job_of

ROOT = Path(__file__).parents[2]
NEEDED = ("torch", "transformers", "accelerate", "peft")
LIBRARIES = (*NEEDED, "bitsandbytes", "liger_kernel")
LONGEST_CASE_S = {"cuda": 90, "cpu": 600}
"""Before a training is given up; a rehearsal may stand beside other work, and no time of its counts."""
OFFLINE = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "WANDB_DISABLED": "true"}


def main(argv: Sequence[str] | None = None) -> int:
    """Train the cases and write the runs file; return 1 where a training failed."""
    options = parser().parse_args(argv)
    chosen = [case for case in cases() if not options.only or case.name in options.only]
    unknown = set(options.only or ()) - {case.name for case in chosen}
    if unknown:
        print(f"tests.gpu: no case is named {', '.join(sorted(unknown))}; --list shows them")
        return 2
    if options.list:
        print("\n".join(case.name for case in chosen))
        return 0
    if options.device == "cuda" and not nvidia_cards()[1]:
        print(
            "tests.gpu: nvidia-smi lists no GPU here, and the kit trains on one; --device cpu rehearses the kit"
        )
        return 2
    if absent := _absent(NEEDED):
        print(f"tests.gpu: needs {', '.join(absent)}, not installed here")
        return 2
    end = time.monotonic() + options.seconds
    runs, models, failed = [], {}, 0
    for case in chosen:
        if missing := _absent(case.needs):
            print(f"{case.name}: not run, {', '.join(missing)} is not installed", flush=True)
            continue
        if time.monotonic() > end:
            print(f"{case.name}: not run, the {options.seconds} seconds are over", flush=True)
            continue
        found = trained(case, options.device, options.snapshots)
        if isinstance(found, str):
            failed += 1
            print(f"{case.name}: failed: {found}", flush=True)
            continue
        is_rehearsal = options.device == "cpu"
        run = run_of(case, is_rehearsal, found)
        models[run["plan"]["model"]] = case.config(is_rehearsal)
        runs.append(run)
        write(
            Path(options.out), runs, models
        )  # each time: whoever is stopped keeps what was measured
        print(f"{case.name}: {words(found['measured'])}", flush=True)
    print(f"{len(runs)} runs in {options.out}; next: preflight validate {options.out}")
    return 1 if failed else 0


def _absent(names: Sequence[str]) -> list[str]:
    return [name for name in names if find_spec(name) is None]


def parser() -> argparse.ArgumentParser:
    """Return what the kit takes."""
    found = argparse.ArgumentParser(
        prog="python -m tests.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    found.add_argument("--only", nargs="+", metavar="NAME")
    found.add_argument("--out", default="runs-gpu.yaml", metavar="FILE")
    found.add_argument("--seconds", type=int, default=500, help="no training starts after them")
    found.add_argument("--snapshots", metavar="FOLDER", help="the allocator's history of each case")
    found.add_argument("--list", action="store_true", help="name the cases and train nothing")
    return found


def trained(case: Case, device: str, snapshots: str | None) -> dict[str, Any] | str:
    """Return what a training measured, or why it failed."""
    job: dict[str, Any] = {**job_of(case, device == "cpu"), "device": device}
    environment = {**os.environ, **OFFLINE}
    if device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    else:
        card = nvidia_cards()[1][0]
        job["in_use_before_bytes"] = (card.total_bytes or 0) - (card.free_bytes or 0)
        if case.expandable_segments:
            setting = "expandable_segments:True"
            environment |= {"PYTORCH_ALLOC_CONF": setting, "PYTORCH_CUDA_ALLOC_CONF": setting}
        if snapshots is not None:
            Path(snapshots).mkdir(parents=True, exist_ok=True)
            job["snapshot"] = str(Path(snapshots).resolve() / f"{case.name}.pickle")
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "tests.gpu.training"],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=environment,
            timeout=LONGEST_CASE_S[device],
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"not done after {LONGEST_CASE_S[device]} seconds"
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return f"exit {done.returncode}: {last}"
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def run_of(case: Case, is_rehearsal: bool, found: dict[str, Any]) -> dict[str, Any]:
    """Return a run as a measured-run file lists it."""
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            continue
    return {
        "id": f"kit-{case.name}",
        "group": "rehearsal" if is_rehearsal else "kit",
        "source": f"python -m tests.gpu --only {case.name}" + " --device cpu" * is_rehearsal,
        "sequence_kind": "fixed",
        "scored": not is_rehearsal,
        **({"not_scored_because": "rehearsed on a CPU"} if is_rehearsal else {}),
        "plan": case.plan(is_rehearsal, versions),
        "device": found["device"],
        "measured": {k: v for k, v in found["measured"].items() if _is_told(k, found["measured"])},
    }


def _is_told(key: str, measured: dict[str, Any]) -> bool:
    """Tell whether a number says something: a run that died has no peak."""
    return measured["outcome"] == "value" or not key.endswith("peak_bytes")


def words(measured: dict[str, Any]) -> str:
    """Return a line about what was measured."""
    if measured["outcome"] != "value":
        return "out of memory"
    peaks = (
        f"{name} {format_gib(measured[key])}"
        for name, key in (
            ("allocated", "peak_bytes"),
            ("reserved", "reserved_peak_bytes"),
            ("device", "device_peak_bytes"),
        )
        if key in measured
    )
    return ", ".join(peaks)


def write(path: Path, runs: list[dict[str, Any]], models: dict[str, Any]) -> None:
    """Write the measured-run file (schema 1)."""
    about = "Short trainings with random weights on one device (python -m tests.gpu)."
    whole = {"schema": 1, "about": about, "models": models, "runs": runs}
    path.write_text(yaml.safe_dump(whole, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
