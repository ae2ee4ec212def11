"""What can be derived: a table or a page, the files that it is kept in, and what making it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from preflight.values import dataclass

ROOT = Path(__file__).resolve().parents[2]
"""The checkout: only there is anything derived."""

Say = Callable[[str], None]
"""Tells who waits what is being worked on."""
Files = Iterable[tuple[str, str]]
"""(path from the root, whole text) of each file, as soon as it is made."""


@dataclass(frozen=True)
class Target:
    """A table or a page that a command makes, whole, from what is installed or from the code."""

    name: str
    group: str
    """tables (from libraries, shipped) or pages (from the code and the tables)."""
    about: str
    files: str
    """Where it is kept, for a person."""
    make: Callable[[Say], Files]
    needs: tuple[str, ...] = ()
    """Import names of the libraries that it is made from."""
    takes: str = "seconds"


def read(path: str) -> str:
    """Return the text of a file of the checkout; empty where there is none yet."""
    try:
        return (ROOT / path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def put_between(text: str, begin: str, end: str, lines: Iterable[str]) -> str:
    """Return a page with other lines between its two marks."""
    head, begins, rest = text.partition(begin)
    _, ends, tail = rest.partition(end)
    assert begins and ends, f"the page has lost its marks {begin} and {end}"
    table = "\n".join(lines)
    return f"{head}{begin}\n\n{table}\n\n{end}{tail}"
