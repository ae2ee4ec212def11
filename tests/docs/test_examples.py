"""Every folder of examples/ with a command.sh runs, and its whole output is compared.

The commands run in an environment with the core alone, as on a login node: so the output does not
depend on which versions of transformers or TRL happen to be installed beside the tests.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
FOLDERS = sorted(script.parent.name for script in EXAMPLES.glob("*/command.sh"))


def output_of(folder: Path, core_bin: Path, home: Path) -> str:
    """Return what a copy of the example prints, both streams in order, and its exit code."""
    place = home / folder.name
    shutil.copytree(folder, place, ignore=shutil.ignore_patterns(".preflight", "expected.txt"))
    environment = {
        "PATH": os.pathsep.join([str(core_bin), "/usr/bin", "/bin"]),
        "HOME": str(home),
        "NO_COLOR": "1",
        "COLUMNS": "100",
        "LANG": "C.UTF-8",
    }
    done = subprocess.run(
        ["bash", "command.sh"],
        cwd=place,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return f"{done.stdout}[exit {done.returncode}]\n"


@pytest.mark.parametrize("name", FOLDERS)
def test_an_example_prints_what_its_expected_file_says(name, core_bin, tmp_path, request):
    """`pytest tests/docs/test_examples.py --update-expected` rewrites the files; review the diff."""
    folder = EXAMPLES / name
    output = output_of(folder, core_bin, tmp_path)
    expected = folder / "expected.txt"
    if request.config.getoption("--update-expected"):
        expected.write_text(output)

    assert expected.is_file(), f"{expected} is missing; its content would be:\n{output}"
    assert output == expected.read_text()
    assert str(tmp_path) not in output


def test_the_five_outcomes_have_an_example():
    """One folder for each thing that can become of a launch."""
    wanted = ["1-fits", "2-rewritten", "3-refused", "4-bad-input", "5-qlora-suggested"]

    assert [name for name in FOLDERS if name[0].isdigit()] == wanted


def test_no_example_leaves_a_file_of_the_user_changed(core_bin, tmp_path):
    """`fix` writes to .preflight/ only."""
    folder = EXAMPLES / "2-rewritten"
    output_of(folder, core_bin, tmp_path)
    for file in folder.glob("*.*"):
        if file.name != "expected.txt":
            assert (tmp_path / folder.name / file.name).read_bytes() == file.read_bytes()

    assert list((tmp_path / folder.name / ".preflight").iterdir())
