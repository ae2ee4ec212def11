"""Starts a guarded launch for real, on a CPU, through launchers that the tests' own environment does not have.

    python -m tests.real_launchers [NAME ...] [--environments FOLDER] [--record]

Each NAME gets an environment of its own under FOLDER, once. `preflight run` starts a launch that fits, which has
to train two steps, and the same one for a device that it does not fit, which must start nothing. With --record,
versions and steps are kept in record.json, of which docs/launchers.md shows a table.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from .material import write_config, write_rows
from .record import PATH, recorded, write_page
from .table import LAUNCHERS, Launcher

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
ENDED_UNSTARTED = 78
"""How `preflight run` ends where it started nothing."""
TIME_LIMIT_S = 900


class Started(NamedTuple):
    """How a guarded launch ended, and every Python process that it was."""

    exit_code: int
    output: str
    processes: list[dict[str, Any]]

    @property
    def beyond_preflight(self) -> list[list[str]]:
        """The commands of processes that are not preflight."""
        return [p["argv"] for p in self.processes if not p["argv"][1].endswith("/preflight")]

    @property
    def steps(self) -> int:
        """Optimizer steps of the process that took most."""
        return max((len(process["steps"]) for process in self.processes), default=0)


def environment_of(name: str, launcher: Launcher, folder: Path) -> Path:
    """Return the programs of an environment that has a launcher and preflight; it is made once."""
    home = folder / name
    if not (home / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        install = [home / "bin" / "pip", "install", "--quiet"]
        subprocess.run([*install, *launcher.packages, "--editable", REPOSITORY], check=True)
        (home / "ready").touch()
    return home / "bin"


def variables(programs: Path, seen: Path) -> dict[str, str]:
    """Return the variables of a launch that finds its environment's programs and nothing on a network."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
    return {
        **kept,
        "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": str(HERE / "seen"),
        "PREFLIGHT_TEST_SEEN": str(seen),
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(seen.parent / "hub"),
        "OMP_NUM_THREADS": "2",
        "TOKENIZERS_PARALLELISM": "false",
    }


def start(argv: list[str], folder: Path, programs: Path, name: str) -> Started:
    """Start a command to its end, with its processes seen."""
    seen = folder.parent / name
    seen.mkdir()
    done = subprocess.run(
        argv,
        cwd=folder,
        env=variables(programs, seen),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT_S,
    )
    processes = [json.loads(file.read_text()) for file in sorted(seen.glob("*.json"))]
    return Started(done.returncode, done.stdout + done.stderr, processes)


def write_files(launcher: Launcher, folder: Path) -> None:
    """Write what a launch reads, but for weights."""
    write_config(folder / "model")
    write_rows(folder / "data")
    for file, text in launcher.files.items():
        (folder / file).write_text(text)


def tried(name: str, launcher: Launcher, programs: Path) -> dict[str, Any]:
    """Start both launches and return what is recorded of them; raises AssertionError where one is not as it must be."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "work"
        folder.mkdir()
        write_files(launcher, folder)
        weights = [sys.executable, str(HERE / "material.py"), str(folder / "model")]
        subprocess.run(weights, check=True, capture_output=True)
        python = str(programs / "python")
        if launcher.prepare:
            subprocess.run([python, "-c", launcher.prepare], cwd=folder, check=True)
        run = [str(programs / "preflight"), "run", "--device"]
        command = ["--", *shlex.split(launcher.command)]
        refused = start([*run, launcher.small, *command], folder, programs, "refused")
        assert refused.exit_code == ENDED_UNSTARTED, refused.output[-4000:]
        assert refused.beyond_preflight == [], refused.beyond_preflight
        fitting = start([*run, launcher.roomy, *command], folder, programs, "fitting")
        assert fitting.exit_code == 0, fitting.output[-6000:]
        assert "preflight: fits" in fitting.output, fitting.output[:2000]
        assert fitting.steps == 2, (fitting.steps, fitting.output[-6000:])
    package = launcher.packages[0].partition("[")[0]
    asked = f"import importlib.metadata as m; print(m.version({package!r}), m.version('torch'))"
    version, torch = subprocess.check_output([python, "-c", asked], text=True).split()
    return {
        "version": version,
        "torch": torch,
        "command": launcher.command,
        "steps": fitting.steps,
        "processes": len(fitting.beyond_preflight),
        "date": datetime.date.today().isoformat(),
    }


def main() -> int:
    """Start the launches that are named, all of them where none is; return 1 where one is not as it must be."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.real_launchers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(LAUNCHERS))
    parser.add_argument("--environments", type=Path, default=Path(".venv-launchers"))
    parser.add_argument("--record", action="store_true")
    arguments = parser.parse_args()
    rows, failed = recorded(), False
    for name in arguments.names or LAUNCHERS:
        programs = environment_of(name, LAUNCHERS[name], arguments.environments.resolve())
        try:
            rows[name] = tried(name, LAUNCHERS[name], programs)
        except AssertionError as error:
            failed = True
            print(f"{name}: {error}", file=sys.stderr)
            continue
        print(name, json.dumps(rows[name]), flush=True)
        if arguments.record:
            PATH.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")
            write_page()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
