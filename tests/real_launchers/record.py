"""What the last real starts showed, and the tables of docs/launchers.md that are made of it and of the launchers' facts.

`python -m tests.real_launchers.record` writes the tables again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from preflight.launchers.all import launchers

PATH = Path(__file__).with_name("record.json")
TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "launchers.md"
STARTED_IN_TESTS = ("accelerate", "deepspeed", "python", "torchrun", "trl")
"""Launchers that tests/launches starts, and whose own parsers tests/launchers asks: they are installed for the tests."""
NAMES = {"swift": "ms-swift"}
"""Launcher -> its name in the record, where that is another."""


def recorded() -> dict[str, Any]:
    """Return the record by launcher."""
    return dict(json.loads(PATH.read_text())) if PATH.exists() else {}


def started() -> str:
    """Return the table of real starts."""
    rows = [
        f"| {name} | {row['version']} | {row['torch']} | `{' '.join(row['command'].split()[:4])} ...` | {row['steps']}"
        f" | {row['processes']} | {row['date']} |\n"
        for name, row in recorded().items()
    ]
    head = "| launcher | version | torch | command | steps trained | Python processes beyond preflight | date |\n"
    return "".join((head, "|---|---|---|---|--:|--:|---|\n", *rows))


def facts() -> str:
    """Return the table of what every launcher says of itself, and how it is tested."""
    rows, record = [], recorded()
    for launcher in launchers():
        name = launcher.name
        is_here = name in STARTED_IN_TESTS
        asked = f"`ask_{name}.py`" if (TESTS / "launchers" / f"ask_{name}.py").is_file() else "no"
        version = record.get(NAMES.get(name, name), {}).get("version")
        kept = version or "no"
        words = dict.fromkeys((*launcher.programs, *launcher.modules))
        calls = ", ".join(f"`{word}`" for word in words) or "-"
        rows.append(
            f"| {name} | {calls} | {'yes' if launcher.writer else 'no'} | {'in the tests' if is_here else asked}"
            f" | {'in the tests' if is_here else kept} |\n"
        )
    head = "| launcher | programs and modules | writes back | its own parser is asked | started for real |\n"
    return "".join((head, "|---|---|---|---|---|\n", *sorted(rows)))


TABLES: Mapping[str, Callable[[], str]] = {"started": started, "facts": facts}
"""Mark in the page -> what stands behind it."""


def shown(mark: str, text: str) -> str:
    """Return the table that a page has behind a mark."""
    return text.split(f"<!-- {mark} -->\n")[1].split(f"<!-- end of {mark} -->\n")[0]


def write_page() -> None:
    """Write the tables into the page."""
    text = PAGE.read_text()
    for mark, table in TABLES.items():
        begin, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->\n"
        text = f"{text.split(begin)[0]}{begin}{table()}{end}{text.split(end)[1]}"
    PAGE.write_text(text)


if __name__ == "__main__":
    write_page()
