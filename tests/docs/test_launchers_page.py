"""docs/launchers.md names every reader and every wrapper, and test files that are there."""

from __future__ import annotations

import re
from pathlib import Path

from preflight.builtin_hooks import BUILTIN_HOOKS
from preflight.hooks.read_launch import PLUGINS
from preflight.shell.starters.wrapper_options import OPTIONS, SAME_AS, SHELLS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "launchers.md").read_text()
READERS, WRAPPERS = PAGE.split("## Wrappers")


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_reader_has_a_row_and_no_other():
    told = [re.findall(r"`(\w+)`", row[0])[0] for row in rows(READERS)]

    assert sorted(told) == sorted(name for name in BUILTIN_HOOKS if name.startswith("read_"))


def test_a_reader_that_writes_says_so():
    for row in rows(READERS):
        name = row[0].strip("`")

        assert hasattr(PLUGINS[name], "preflight_write_launch") is (row[2] != "nothing"), name


def test_what_a_reader_is_tested_against_is_there():
    for row in rows(READERS):
        files = re.findall(r"`(tests/[\w/]+\.py)`", row[3])

        assert files and all((ROOT / file).is_file() for file in files), row[0]


def test_every_wrapper_has_a_row_and_no_other():
    told = [name for row in rows(WRAPPERS) for name in re.findall(r"`([^`]+)`", row[0])]

    assert sorted(told) == sorted((*OPTIONS, *SHELLS))
    assert [name for name in SAME_AS if f"`{name}`" not in WRAPPERS] == []
