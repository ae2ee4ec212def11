"""Versions for launches whose answer depends on them, said as a repository says them.

Without them such an answer depends on what is installed where the test runs: on a login node, nothing.
"""

from __future__ import annotations

import shutil
from pathlib import Path

PINS = Path(__file__).parent / "does_not_fit" / "requirements.txt"
"""The release of each library with which the answers were reviewed."""


def say_versions(folder: Path) -> None:
    """Give a folder a requirements.txt in which every library has one release."""
    shutil.copyfile(PINS, folder / PINS.name)
