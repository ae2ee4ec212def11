"""What is published: wheel and source archive, their metadata, completion for shells, and the man page."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from preflight import __version__
from preflight.commands import COMMANDS
from preflight.commands.completion import bash, fish, zsh
from preflight.commands.parser import parser_of

ROOT = Path(__file__).parents[2]
TOP_LEVEL = {"preflight", "hooks", "templates", "tests", "examples", "docs"}


@pytest.fixture(scope="module")
def archives(tmp_path_factory) -> Path:
    """A source archive of a copy of the repository, and the wheel that is built from that archive."""
    folder = tmp_path_factory.mktemp("dist")
    source = tmp_path_factory.mktemp("source") / "repository"
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    run = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source],
        capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    return folder


def test_nothing_stands_at_the_top_but_what_its_user_fixed():
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    top = {name.partition("/")[0] for name in tracked if name and name[0] != "."}

    assert top == TOP_LEVEL | {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile"}


def test_archives_have_the_version_and_everything_that_runs(archives):
    (wheel,) = archives.glob("*.whl")
    (source,) = archives.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as file:
        in_wheel = set(file.namelist())
    with tarfile.open(source) as file:
        in_source = {name.partition("/")[2] for name in file.getnames()}

    assert wheel.name == f"launch_preflight-{__version__}-py3-none-any.whl"
    for path in (ROOT / "preflight").rglob("*.py"):
        is_shipped = path.relative_to(ROOT).parts[1] != "derive"
        assert (str(path.relative_to(ROOT)) in in_wheel) == is_shipped, path
    for path in (ROOT / "hooks").rglob("*"):
        if path.suffix in (".py", ".json", ".tsv"):
            assert f"preflight/{path.relative_to(ROOT)}" in in_wheel, path
            assert str(path.relative_to(ROOT)) in in_source, path
    for path in (ROOT / "preflight").rglob("*"):
        if path.is_file() and path.suffix in (".bash", ".js", ".json", ".tsv", ".typed"):
            assert str(path.relative_to(ROOT)) in in_wheel, path
    assert f"launch_preflight-{__version__}.data/data/share/man/man1/preflight.1" in in_wheel
    for page in (ROOT / "docs").glob("*.md"):
        shipped = f"launch_preflight-{__version__}.data/data/share/doc/launch-preflight"
        assert f"{shipped}/{page.name}" in in_wheel
    assert not [name for name in in_wheel if name.startswith(("tests/", "examples/"))]


def test_the_index_would_take_the_archives(archives):
    run = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *map(str, archives.iterdir())],
        capture_output=True, text=True,
    )  # fmt: skip

    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("PASSED") == 2


def test_the_wheel_starts_as_a_program_of_its_own(core_bin, tmp_path):
    """As pipx and uvx start it: the script of the wheel, nothing else on PATH."""
    run = subprocess.run(
        [core_bin / "preflight", "--version"],
        cwd=tmp_path, env={"PATH": ""}, capture_output=True, text=True,
    )  # fmt: skip

    assert run.stdout == f"preflight {__version__}\n", run.stderr


def test_the_version_is_semantic_and_in_the_changelog():
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)
    assert f"\n## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def complete(*words: str) -> list[str]:
    """Return what bash would offer for the last of some words."""
    script = (
        'source "$SCRIPT"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1));'
        ' _preflight; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    path = os.environ["COMPLETION_SCRIPT"]
    run = subprocess.run(
        ["bash", "--norc", "-c", script, "bash", *words],
        env={"PATH": os.environ["PATH"], "SCRIPT": path}, capture_output=True, text=True,
    )  # fmt: skip
    assert run.stderr == ""
    return run.stdout.split()


@pytest.fixture(scope="module", autouse=True)
def completion_script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "preflight.bash"
    path.write_text(bash())
    os.environ["COMPLETION_SCRIPT"] = str(path)
    yield path
    del os.environ["COMPLETION_SCRIPT"]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("preflight", "est"), ["estimate"]),
        (("preflight", "check", "--dev"), ["--device"]),
        (("preflight", "check", "--device", "h100-sxm"), ["h100-sxm-80"]),
        (("preflight", "run", "--allow", "qlo"), ["qlora"]),
        (("preflight", "size", "m", "--format", "c"), ["csv"]),
        (("preflight", "explain", "does"), ["does_not_fit"]),
    ],
)
def test_bash_offers_commands_options_and_values(words, offered):
    assert complete(*words) == offered


def test_every_command_and_option_is_completed_in_every_shell():
    scripts = {"bash": bash(), "zsh": zsh(), "fish": fish()}
    for name in COMMANDS:
        for option, _ in parser_of(name).actions():
            if not option.startswith("--"):
                continue
            spelled = {"bash": option, "zsh": option, "fish": f"-l {option.removeprefix('--')}"}
            for shell, script in scripts.items():
                assert any(name in line and spelled[shell] in line for line in script.splitlines())


def test_no_line_of_the_man_page_is_a_command_of_man_by_chance():
    page = (ROOT / "docs" / "preflight.1").read_text()

    assert ".SH COMMANDS" in page
    assert not [line for line in page.splitlines() if line.startswith("'")]
