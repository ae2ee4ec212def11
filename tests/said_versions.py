"""Versions for launches whose answer depends on them, said as a repository says them.

Without them such an answer depends on what is installed where the test runs: on a login node, nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from preflight.launch import Origin
from preflight.libraries.resolve import Libraries, LibraryVersion

PINS = Path(__file__).parent / "does_not_fit" / "requirements.txt"
"""The release of each library with which the answers were reviewed."""


def say_versions(folder: Path) -> None:
    """Give a folder a requirements.txt in which every library has one release."""
    shutil.copyfile(PINS, folder / PINS.name)


def named_libraries(versions: Mapping[str, str]) -> Libraries:
    """Return libraries whose versions are those that are installed."""
    return Libraries({n: LibraryVersion(v, Origin("installed here")) for n, v in versions.items()})
