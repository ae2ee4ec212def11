"""What can be derived: a table or a page, the files that it is kept in, and what making it needs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from preflight.values import dataclass

ROOT = Path(__file__).resolve().parents[2]
"""The checkout: only there is anything derived."""

Say = Callable[[str], None]
"""Tells who waits what is being worked on."""
Files = Iterable[tuple[str, str]]
"""(path from the root, whole text) of each file, as soon as it is made."""


class NotMade(Exception):
    """Nothing that holds can be made of this; the message says why."""


@dataclass(frozen=True)
class Chosen:
    """What of a family is made: all that is kept of it, where nothing else is said."""

    methods: tuple[str, ...] = ()
    """These of METHODS alone (preflight/formulas/cost_tables.py); the others stay as they are kept."""
    only_missing: bool = False
    """What a family's files lack, and nothing that they have."""
    adapters: tuple[str, ...] = ()
    """Ways of adapting, by their folder (preflight/formulas/adapters/adaptations.py)."""


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
    names: Callable[[], Collection[str]] = tuple
    """What may be made alone: families, types, towers."""
    make_one: Callable[[str, Chosen, Say], Files] | None = None
    """Makes the files of one of these names."""
    folder: str = ""
    """Environment variable that has to name a folder that it is made from."""


def read(path: str) -> str:
    """Return the text of a file of the checkout; empty where there is none yet."""
    try:
        return (ROOT / path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def write(path: str, text: str) -> None:
    """Write a file of the checkout, or remove it where there is nothing to write."""
    if text:
        (ROOT / path).parent.mkdir(exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")
    else:
        (ROOT / path).unlink(missing_ok=True)


def put_between(text: str, begin: str, end: str, lines: Iterable[str]) -> str:
    """Return a page with other lines between its two marks."""
    head, begins, rest = text.partition(begin)
    _, ends, tail = rest.partition(end)
    assert begins and ends, f"the page has lost its marks {begin} and {end}"
    table = "\n".join(lines)
    return f"{head}{begin}\n\n{table}\n\n{end}{tail}"
