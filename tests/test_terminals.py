"""What every command prints on narrow terminals, on dumb ones, and where the encoding has few characters."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from preflight.cli import main
from preflight.commands import COMMANDS

ROOT = Path(__file__).parent.parent
FOLDERS = ("1-fits", "2-rewritten", "3-refused", "5-qlora-suggested")
OTHERS = {
    "unknown": "check -- accelerate launch train.py",
    "misspelt": "check --devise x",
    "refused flag": "check --device t4-16 -- accelerate launch --num_procs 3 train.py",
    "size": "size meta-llama/Llama-3.1-8B --seq-len 1024 -v",
    "history": "history",
    "probe": "probe",
    "guard": "guard",
    "slurm status": "slurm status",
    "explain": "explain",
    "explain lora": "explain lora",
    "explain PF203": "explain PF203",
    "hooks": "hooks",
    "scan": "scan",
}
VERBATIM = ("--- ", "+++ ", "@@ ", "+", "-", "   fsdp_", "   distributed", "accelerate launch ")
"""Lines of a file's diff, and commands to copy: broken, they would be something else."""


class Terminal(io.StringIO):
    """Text that believes to be on a terminal."""

    def isatty(self) -> bool:
        return True


def command_of(folder: str) -> list[str]:
    """Return the words of an example's command, without `preflight`."""
    text = (ROOT / "examples" / folder / "command.sh").read_text().partition("preflight ")[2]
    return shlex.split(text.replace("\\\n", " "))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    for name in FOLDERS:
        shutil.copytree(ROOT / "examples" / name, folder / name)
    return folder


def printed(words: list[str], stream: type[io.StringIO] = Terminal) -> str:
    """Return what one command prints, both streams one after the other."""
    out, err = stream(), stream()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        contextlib.suppress(SystemExit),
    ):
        main(words)
    return out.getvalue() + err.getvalue()


def too_wide(text: str, width: int) -> list[str]:
    """Return the lines that are wider than the terminal and could be broken.

    The first and the last line of an answer are whole, for whoever looks for them in a log.
    """
    lines = [line for line in text.splitlines() if len(line) > width and len(line.split()) > 1]
    whole = ("preflight: ", "next: ", "command.sh:")
    return [line for line in lines if not line.startswith(whole + VERBATIM)]


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize("name", FOLDERS)
def test_a_report_keeps_to_the_width_and_to_plain_characters(place, monkeypatch, name, width):
    monkeypatch.chdir(place / name)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "dumb")
    words = command_of(name)
    for more in ([], ["-v"]):
        text = printed([words[0], *more, *words[1:]])

        assert too_wide(text, width) == []
        assert text.isascii() and "\x1b" not in text


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize("name", OTHERS)
def test_every_other_answer_does_too(place, monkeypatch, name, width):
    monkeypatch.chdir(place / "1-fits")
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "dumb")
    text = printed(OTHERS[name].split())

    assert text and too_wide(text, width) == []
    assert text.isascii() and "\x1b" not in text


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_keeps_to_the_width_but_for_what_is_typed(monkeypatch, name, width):
    monkeypatch.setenv("COLUMNS", str(width))
    text = printed([name, "--help"] if name else ["--help"])
    typed = ("preflight ", "PREFLIGHT", "torchrun", "eval", "-m ", "sbatch", "source", "usage: ")
    wide = [line for line in too_wide(text, width) if not line.strip().startswith(typed)]

    assert wide == []
    assert text.isascii()
    assert "".join(text.split()) == "".join(whole_help(name).split())


def whole_help(name: str) -> str:
    """Return the help as a pipe gets it."""
    return printed([name, "--help"] if name else ["--help"], io.StringIO)


def test_a_terminal_with_bars_and_color_shows_both_and_a_dumb_one_neither(place, monkeypatch):
    monkeypatch.chdir(place / "2-rewritten")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    bright = printed(command_of("2-rewritten"))
    monkeypatch.setenv("TERM", "dumb")
    plain = printed(command_of("2-rewritten"))

    assert "\x1b[" in bright and "####" in bright
    assert "\x1b" not in plain and "####" not in plain


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "ascii", "utf-8"])
def test_an_encoding_with_few_characters_fails_nothing(tmp_path, encoding):
    """Ours is ASCII; a path or a config may hold anything, and is shown escaped where it must be."""
    folder = tmp_path / "train-\u30c6\u30b9\u30c8-\xfc"
    shutil.copytree(ROOT / "examples" / "2-rewritten", folder)
    config = folder / "ein\xfc\u4e2d.yaml"
    config.write_text(
        "# \u8bad\u7ec3 \xfc\n" + (folder / "fsdp2.yaml").read_text(), encoding="utf-8"
    )
    words = [config.name if word == "fsdp2.yaml" else word for word in command_of("2-rewritten")]
    done = subprocess.run(
        [sys.executable, "-m", "preflight", *words],
        cwd=folder,
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "COLUMNS": "80"},
        capture_output=True,
    )
    text = (done.stdout + done.stderr).decode(encoding)

    assert done.returncode == 0, text
    assert "fits rewritten" in text and "Traceback" not in text
    shown = config.name.encode(encoding, "backslashreplace").decode(encoding)
    assert f"--- {shown}" in text
