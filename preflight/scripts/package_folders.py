"""The folders in which the packages may lie that a script imports."""

from __future__ import annotations

import os
from functools import lru_cache

from preflight.launch import LaunchCommand

MAX_FOLDERS = 6
"""Above a script, in which its packages are looked for: `src/` in `from pkg.args import X` of `src/pkg/train/run.py`."""
PACKAGES = ("pyproject.toml", "setup.py")
"""What lies beside a package that a repository installs."""


def package_folders(command: LaunchCommand, folder: str) -> list[str]:
    """Return the folders in which a script's packages may lie: its own, those above, and `src` in each of them.

    Above the launch's own folder it is the package that the repository installs.
    """
    above = [*_folders_above(folder), ""]
    installed = _installed_from(os.path.abspath(command.cwd))
    above = list(dict.fromkeys([*above, *([] if installed is None else [installed])]))
    return [*above, *(os.path.join(each, "src") for each in above)]


@lru_cache(maxsize=8)
def _installed_from(cwd: str) -> str | None:
    """Return the nearest folder above one that holds a package to install, as a relative path."""
    above = cwd
    for _ in range(MAX_FOLDERS):
        above = os.path.dirname(above)
        if any(os.path.isfile(os.path.join(above, name)) for name in PACKAGES):
            return os.path.relpath(above, cwd)
    return None


def _folders_above(folder: str) -> list[str]:
    """Return a folder and those above it, as far as its path says them."""
    folders = [folder]
    while folder not in ("", os.sep, ".", "..") and len(folders) < MAX_FOLDERS:
        folder = os.path.dirname(folder)
        folders.append(folder)
    return folders
