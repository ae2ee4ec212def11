"""docs/contributing.md: its worked example is written into an empty folder and run as it stands."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from typed_pages import is_as_shown, printed_by, shown_on

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "contributing.md").read_text()
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
RULE, REMEDY = SECTIONS["A memory rule in ten minutes"], SECTIONS["A remedy"]


def files_of(section: str) -> dict[str, str]:
    """Return name and text of every file that a section shows."""
    return dict(re.findall(r"^```(?:python|yaml)\n# (\S+)\n(.*?)^```", section, re.M | re.S))


def environment_of(folder: Path) -> dict[str, str]:
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.defpath]),
        "HOME": str(folder),
        "NO_COLOR": "1",
        "COLUMNS": "200",
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@pytest.fixture(scope="module")
def printed(tmp_path_factory) -> dict[str, list[str]]:
    """What each command prints; the rule is there from the second on, as a reader would write it."""
    folder, other = tmp_path_factory.mktemp("rule"), tmp_path_factory.mktemp("remedy")
    first, *others = [command for command, _ in shown_on(RULE)]
    (folder / "plan.yaml").write_text(files_of(RULE)["plan.yaml"])
    before = printed_by([first], folder, environment_of(folder))
    for section, place in ((RULE, folder), (REMEDY, other)):
        for name, text in files_of(section).items():
            (place / name).write_text(text)
    after = printed_by(others, folder, environment_of(folder))
    remedies = printed_by(
        [command for command, _ in shown_on(REMEDY)], other, environment_of(other)
    )
    return {RULE: [*before, *after], REMEDY: remedies}


def test_the_examples_have_three_files_each():
    assert list(files_of(RULE)) == ["plan.yaml", "preflight_hooks.py", "test_rule.py"]
    assert list(files_of(REMEDY)) == ["plan.yaml", "preflight_hooks.py", "test_remedy.py"]
    assert len(shown_on(PAGE)) == len(shown_on(RULE)) + len(shown_on(REMEDY))


@pytest.mark.parametrize(
    ("section", "index"),
    [(section, i) for section in (RULE, REMEDY) for i in range(len(shown_on(section)))],
    ids=lambda each: str(each).strip().partition(" ")[0],
)
def test_a_command_of_an_example_prints_what_the_page_shows(printed, section, index):
    command, lines = shown_on(section)[index]

    assert is_as_shown(lines, printed[section][index]), f"{command}\n{printed[section][index]}"


def test_the_rule_adds_its_own_bytes_and_no_more(printed):
    before, after = (re.search(r"Peak ([\d.]+) of", printed[RULE][i]) for i in (0, 2))
    assert before and after

    assert float(after[1]) - float(before[1]) == pytest.approx(
        4 * 8_030_261_248 / 8 / 2**30, abs=0.1
    )


def test_files_that_the_page_names_are_there():
    """Capitals stand for a name of one's own: `hooks/memory_SUBJECT.py`."""
    named = set(re.findall(r"`((?:\w+/)+[\w.]*)`", PAGE))

    assert len(named) > 20
    assert [name for name in named if name.islower() and not (ROOT / name).exists()] == []
