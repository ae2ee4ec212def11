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
FILES = dict(re.findall(r"^```(?:python|yaml)\n# (\S+)\n(.*?)^```", PAGE, re.M | re.S))


@pytest.fixture(scope="module")
def printed(tmp_path_factory) -> list[str]:
    """What each command prints; the rule is there from the second on, as a reader would write it."""
    folder = tmp_path_factory.mktemp("rule")
    environment = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.defpath]),
        "HOME": str(folder),
        "NO_COLOR": "1",
        "COLUMNS": "200",
        "LANG": "C.UTF-8",
    }
    first, *others = [command for command, _ in shown_on(PAGE)]
    (folder / "plan.yaml").write_text(FILES["plan.yaml"])
    before = printed_by([first], folder, environment)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return [*before, *printed_by(others, folder, environment)]


def test_the_example_has_its_three_files():
    assert list(FILES) == ["plan.yaml", "preflight_hooks.py", "test_rule.py"]


@pytest.mark.parametrize("index", range(len(shown_on(PAGE))))
def test_a_command_of_the_example_prints_what_the_page_shows(printed, index):
    command, lines = shown_on(PAGE)[index]

    assert is_as_shown(lines, printed[index]), f"{command}\n{printed[index]}"


def test_the_rule_adds_its_own_bytes_and_no_more(printed):
    before, after = (re.search(r"Peak ([\d.]+) of", printed[i]) for i in (0, 2))
    assert before and after

    assert float(after[1]) - float(before[1]) == pytest.approx(
        4 * 8_030_261_248 / 8 / 2**30, abs=0.1
    )
