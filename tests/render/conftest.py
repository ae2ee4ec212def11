"""A headless Chromium for the pages that preflight writes, and what a run says where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--disable-dev-shm-usage",
)  # fmt: skip


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's path; a failure in CI and a loud gap elsewhere where there is none."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        reason = "Chromium is not installed: apt-get install chromium"
        if os.environ.get("CI", "") not in ("", "false", "0"):
            pytest.fail(reason)
        pytest.skip(f"not run! THE TESTS OF PAGES DID NOT RUN: {reason}")
    return found


@pytest.fixture
def browse(chromium: str, tmp_path: Path) -> Callable[..., str]:
    """Open a page and return its document as text, after its scripts ran."""

    def open_page(path: Path, *flags: str) -> str:
        run = subprocess.run(
            [chromium, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *flags, path.as_uri()],
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        return run.stdout

    return open_page
