"""Console blocks of the how-to pages, typed in a folder with the files that the page shows."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from typed_pages import is_as_shown, printed_by, shown_on

from preflight.commands import COMMANDS
from preflight.commands.parser import parser_of
from preflight.verdict import MARGIN_SHARE

DOCS = Path(__file__).parents[2] / "docs"
TIGHT = (DOCS / "tight.md").read_text()
PAGES = ("tight.md", "job-died.md")


@pytest.fixture(scope="module")
def printed(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("tight")
    for name, text in re.findall(r"^```yaml\n# (\S+)\n(.*?)^```", TIGHT, re.M | re.S):
        (folder / name).write_text(text)
    environment = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.defpath]),
        "HOME": str(folder),
        "NO_COLOR": "1",
        "COLUMNS": "200",
        "LANG": "C.UTF-8",
    }
    return printed_by([command for command, _ in shown_on(TIGHT)], folder, environment)


@pytest.mark.parametrize("index", range(len(shown_on(TIGHT))))
def test_a_command_about_tight_prints_what_the_page_shows(printed, index):
    command, lines = shown_on(TIGHT)[index]

    assert is_as_shown(lines, printed[index]), f"{command}\n{printed[index]}"


def test_the_margin_on_the_page_is_the_one_that_judges():
    assert (
        f"{100 * MARGIN_SHARE:.1f} percent of the card, {30 * MARGIN_SHARE:.1f} GiB here" in TIGHT
    )


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_option_of_a_how_to_exists(page):
    text = (DOCS / page).read_text()
    used = re.findall(r"preflight (\w+)((?: --?[\w-]+(?: [^-`\s]\S*)?)*)", text)
    commands = {name for name, _ in used if name in COMMANDS}

    assert commands
    for name, options in used:
        for option in re.findall(r"--[\w-]+\w", options.partition(" -- ")[0]):
            assert name in COMMANDS and option in dict(parser_of(name).actions()), (
                f"{name} {option}"
            )
