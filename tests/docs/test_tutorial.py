"""docs/tutorial.md is typed again, as it stands, and prints what it shows."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from typed_pages import is_as_shown, printed_by, shown_on

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tutorial.md").read_text()
SET_UP = {
    "git clone https://example.org/preflight.git preflight",
    "python3 -m venv ~/.venvs/preflight",
    ". ~/.venvs/preflight/bin/activate",
    "cd preflight",
    "pip install .",
    'pip install "../preflight[trace]" "accelerate>=1.10"',
}
"""What fixtures do here instead: a copy of the tracked files, a wheel without a network, the tests' own torch."""
SHOWN = shown_on(PAGE)


@pytest.fixture(scope="module")
def printed(tmp_path_factory, core_bin) -> list[str]:
    """What one shell prints for each command, typed in order in a copy of the repository."""
    home = tmp_path_factory.mktemp("home")
    repository = home / "preflight"
    repository.mkdir()
    shutil.copytree(ROOT / "examples", repository / "examples")
    environment = {
        "PATH": os.pathsep.join([str(core_bin), str(Path(sys.executable).parent), os.defpath]),
        "HOME": str(home),
        "NO_COLOR": "1",
        "COLUMNS": "100",
        "LANG": "C.UTF-8",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    return printed_by([command for command, _ in SHOWN], repository, environment)


@pytest.mark.launch
@pytest.mark.parametrize("index", range(len(SHOWN)))
def test_a_command_of_the_tutorial_prints_what_the_page_shows(printed, index):
    command, lines = SHOWN[index]

    assert len(printed) == len(SHOWN)
    assert is_as_shown(lines, printed[index]), f"{command}\n{printed[index]}"


def test_what_the_page_sets_up_is_what_the_fixtures_do_here():
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE, re.M | re.S)

    assert {line for block in blocks for line in block.splitlines()} == SET_UP
