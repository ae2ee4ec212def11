"""docs/tutorial.md is typed again, as it stands, and prints what it shows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
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
MARK = "=== typed: "


def shown() -> list[tuple[str, list[str]]]:
    """Every command of the page with the lines under it, in order."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```", PAGE, re.M | re.S):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


@pytest.fixture(scope="module")
def printed(tmp_path_factory, core_bin) -> list[str]:
    """What one shell prints for each command, typed in order in a copy of the repository."""
    home = tmp_path_factory.mktemp("home")
    repository = home / "preflight"
    repository.mkdir()
    shutil.copytree(ROOT / "examples", repository / "examples")
    # As typed by hand: `echo $?` comes after the command that it asks about.
    lines = []
    for command, _ in shown():
        lines.append(f"_code=$?; echo '{MARK}'; (exit $_code)\n{command}")
    done = subprocess.run(
        ["bash", "-c", "\n".join(lines)],
        cwd=repository,
        env={
            "PATH": os.pathsep.join([str(core_bin), str(Path(sys.executable).parent), os.defpath]),
            "HOME": str(home),
            "NO_COLOR": "1",
            "COLUMNS": "100",
            "LANG": "C.UTF-8",
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    _, *outputs = done.stdout.split(f"{MARK}\n")
    return outputs


@pytest.mark.launch
@pytest.mark.parametrize("index", range(len(shown())))
def test_a_command_of_the_tutorial_prints_what_the_page_shows(printed, index):
    command, lines = shown()[index]
    pattern = "".join(
        r"(?:.*\n)*?" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") + r"\n"
        for line in lines
    )

    assert len(printed) == len(shown())
    assert re.fullmatch(pattern, printed[index]), f"{command}\n{printed[index]}"


def test_what_the_page_sets_up_is_what_the_fixtures_do_here():
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE, re.M | re.S)

    assert {line for block in blocks for line in block.splitlines()} == SET_UP
