"""A headless Chromium for the pages that preflight writes, and what a run says where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

NOT_RUN = pytest.StashKey[list[str]]()
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--disable-dev-shm-usage",
)  # fmt: skip


@pytest.fixture(scope="session")
def chromium(request: pytest.FixtureRequest) -> str:
    """The browser's path; a failure in CI and a loud gap elsewhere where there is none."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        reason = "Chromium is not installed: apt-get install chromium"
        if os.environ.get("CI", "") not in ("", "false", "0"):
            pytest.fail(reason)
        request.config.stash.setdefault(NOT_RUN, []).append(reason)
        pytest.skip(reason)
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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end, where everybody looks, that no page was opened."""
    for reason in terminalreporter.config.stash.get(NOT_RUN, []):
        terminalreporter.section("THE TESTS OF PAGES DID NOT RUN", sep="!", red=True, bold=True)
        terminalreporter.write_line(reason)
