"""A framework's source in the repository of a launch: a fork, whose parser may know what no release does.

Who works in such a folder has installed it from there (`pip install -e .`), and Python finds it before any other where a
module is started (`python -m`). What it adds is in no table here, so that a word that its source speaks of is no
mistake: what it does is not known.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import product

from preflight.files import open_regular

SOURCES = ("", "src")
"""Folders of a repository in which a package lies."""
MOST_BYTES = 16_000_000


def copy_of(packages: Iterable[str], folder: str) -> str | None:
    """Return the folder of a framework's package, by one of the names that it has had, in the one of a launch or above it
    in its repository: of a checkout that lies there by that name (`verl/verl`) too, which is what is installed from it."""
    packages = tuple(packages)
    place = os.path.abspath(folder)
    while True:
        for above, name in product((*SOURCES, *packages), packages):
            path = os.path.join(place, above, name)
            if os.path.isfile(os.path.join(path, "__init__.py")):
                return path
        parent = os.path.dirname(place)
        if parent == place or os.path.exists(os.path.join(place, ".git")):
            return None
        place = parent


def speaks_of(copy: str, word: str, is_value: bool) -> bool:
    """Tell whether a package's source has a name, or a value as a text of its own."""
    quoted = rf"""["']{re.escape(word)}["']"""
    pattern = quoted if is_value else rf"(?<![\w-]){re.escape(word)}(?![\w-])"
    return re.search(pattern, _source(copy)) is not None


@lru_cache(maxsize=2)
def _source(copy: str) -> str:
    """Return the text of a package, as much as is read of one."""
    return "\n".join(text for _, text in sources_of(copy))


@lru_cache(maxsize=2)
def sources_of(copy: str) -> tuple[tuple[str, str], ...]:
    """Return the files of a package with their texts, as much as is read of one: each key of a fork's asks for them."""
    return (*_files(copy),)


def _files(copy: str) -> Iterator[tuple[str, str]]:
    left = MOST_BYTES
    for root, folders, names in os.walk(copy):
        folders.sort()
        for name in sorted(names):
            if not name.endswith(".py"):
                continue
            path = os.path.join(root, name)
            try:
                with open_regular(path) as file:
                    text = file.read(left)
            except OSError:
                continue
            left -= len(text)
            yield path, text.decode("utf-8", "replace")
            if left <= 0:
                return
