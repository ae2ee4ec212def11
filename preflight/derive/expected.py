"""Pages and figures that a test holds and writes itself: every test file that asks for `--update-expected`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from preflight.derive.target import ROOT

ASKS = 'getoption("--update-expected")'
FOLDERS = ("docs", "examples", "preflight", "tests")
SUFFIXES = (".csv", ".json", ".md", ".png", ".svg", ".tsv", ".txt", ".yaml")
"""Where tests write, and what: a file elsewhere would not be named as changed."""


def updating_tests() -> dict[str, Path]:
    """Return name -> test file: `answers_page`, `proofs/page`, ..."""
    tests = ROOT / "tests"
    found = {}
    for path in sorted(tests.rglob("test_*.py")):
        if ASKS in path.read_text(encoding="utf-8"):
            folder = path.parent.relative_to(tests)
            found[(folder / path.stem.removeprefix("test_")).as_posix()] = path
    return found


def run_test(path: Path, writes: bool) -> tuple[bool, list[str], str]:
    """Run one file; return whether its tests pass, which files it wrote anew, and what pytest said."""
    before = contents()
    command = [sys.executable, "-m", "pytest", "-q", "-x", str(path)]
    done = subprocess.run(
        [*command, "--update-expected"] if writes else command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode == 0, changed(before, contents()), done.stdout


def contents() -> dict[str, bytes]:
    """Return the files that a test may write, by their path from the root."""
    return {
        str(path.relative_to(ROOT)): path.read_bytes()
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in SUFFIXES and path.is_file()
    }


def changed(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> list[str]:
    """Return the paths whose content is another now."""
    return sorted(name for name in {**before, **after} if before.get(name) != after.get(name))
