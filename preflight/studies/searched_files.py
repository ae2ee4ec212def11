"""The files of a folder that are looked through for launches, and what is left out of them."""

from __future__ import annotations

import os

from preflight.envelopes.all import ENDINGS, WORKFLOWS
from preflight.studies.launch_files import MAX_BYTES, SHELL_ENDINGS, carries_launch, text_of
from preflight.values import NamedTuple

MAX_FILES = 5_000
MAX_DEPTH = 12
"""Of folders below the one that is looked through: what lies deeper, or comes later, is counted as left out."""
NOT_OURS = frozenset(["__pycache__", "build", "dist", "node_modules", "site-packages", "venv"])


class LaunchFiles(NamedTuple):
    """The files of a folder in which launches may stand, relative to it."""

    paths: tuple[str, ...]
    left_out: tuple[str, ...]
    """Files that are too large or too many, and folders that lie too deep, none of which are looked into."""


def launch_files(folder: str) -> LaunchFiles:
    """Return the shell scripts, Makefiles and READMEs below a folder, nearer ones first in each."""
    paths: list[str] = []
    left_out: list[str] = []
    for root, folders, names in os.walk(folder):
        depth = os.path.relpath(root, folder).count(os.sep) + (root != folder)
        ours = sorted(n for n in folders if _is_ours(n))
        folders[:] = ours if depth < MAX_DEPTH else []
        if depth >= MAX_DEPTH:
            left_out += [os.path.relpath(os.path.join(root, name), folder) for name in ours]
        for name in sorted(names):
            whole = os.path.join(root, name)
            path = os.path.relpath(whole, folder)
            if not _may_launch(name) or not os.path.isfile(whole):
                continue
            is_left_out = len(paths) == MAX_FILES or os.path.getsize(whole) > MAX_BYTES
            if name.endswith(ENDINGS) and (is_left_out or not carries_launch(text_of(whole))):
                continue  # a config
            (left_out if is_left_out else paths).append(path)
    return LaunchFiles(tuple(paths), tuple(left_out))


def _is_ours(folder: str) -> bool:
    return folder == WORKFLOWS or (not folder.startswith(".") and folder not in NOT_OURS)


def _may_launch(name: str) -> bool:
    is_text = name == "Makefile" or name.startswith("README")
    return is_text or name.endswith((*SHELL_ENDINGS, *ENDINGS))
