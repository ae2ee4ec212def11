"""Makes a virtual environment that has the wheel of this repository and its core dependencies only."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
PIP = (sys.executable, "-m", "pip")


def install_core(folder: Path) -> Path:
    """Return the bin folder of a new environment: our wheel, its dependencies, nothing else.

    Nothing is downloaded: the wheel is built here, the dependencies are copied from the
    environment that runs the tests, file by file as their own records list them.
    """
    wheel = build_wheel(folder / "wheel")
    environment = folder / "core"
    venv.create(environment, symlinks=True, with_pip=False)
    python = environment / "bin" / "python"
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    subprocess.run(
        [*PIP, "--python", python, "install", "--quiet", "--no-index", "--no-deps", wheel],
        check=True,
    )
    for name in closure("launch-preflight"):
        copy_distribution(name, Path(site))
    return python.parent


def build_wheel(folder: Path) -> Path:
    """Build the wheel from a copy, so that no build folder appears in the repository."""
    source = folder / "source"
    source.mkdir(parents=True)
    for name in ("preflight", "hooks", "templates"):
        shutil.copytree(
            REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    (source / "docs").mkdir()
    for path in (REPOSITORY / "docs" / "preflight.1", *(REPOSITORY / "docs").glob("*.md")):
        shutil.copy(path, source / "docs")
    subprocess.run(
        [*PIP, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, source],
        check=True,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


def closure(name: str) -> set[str]:
    """Return the dependencies of a distribution, and theirs, without extras and without itself."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for requirement in importlib.metadata.requires(waiting.pop()) or ():
            if ";" in requirement:
                continue  # an extra, or another Python
            dependency = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
            if dependency not in found:
                found.add(dependency)
                waiting.append(dependency)
    return found


def copy_distribution(name: str, site: Path) -> None:
    """Copy an installed distribution, without its scripts."""
    for file in importlib.metadata.files(name) or ():
        if ".." in file.parts or file.suffix == ".pyc":
            continue
        target = site / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file.locate(), target)
