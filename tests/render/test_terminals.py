"""What every command prints on narrow terminals, on dumb ones, in a pipe, and where an encoding has few characters.

Each setting has one process, which runs every command: two on real terminals, one whose output is a pipe.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from every_command import (
    EXAMPLES,
    MARK,
    ODD_CONFIG,
    VERBATIM,
    cases,
    command_of,
    environment,
    furnish,
)
from every_command import __file__ as DRIVER
from json_schemas import all_commands
from pseudo_terminal import on_terminal, too_wide

from preflight.cli import main
from preflight.commands.calibrate import calibration_lines
from preflight.render.page import Page

ODD_PLACE = "train-\u30c6\u30b9\u30c8-\xfc"


class Setting(NamedTuple):
    """Where the answers go."""

    columns: int
    """Of a terminal; 0 for a pipe."""
    encoding: str
    env: Mapping[str, str]


SETTINGS = {
    "narrow and dumb": Setting(40, "cp437", {"TERM": "dumb"}),
    "without color": Setting(80, "cp1252", {"TERM": "xterm", "NO_COLOR": "1"}),
    "a pipe": Setting(
        0, "ascii", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TERM": "xterm"}
    ),
}
TERMINALS = [name for name, setting in SETTINGS.items() if setting.columns]


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> dict[str, dict[str, str]]:
    """What every command says, by setting and by case."""
    root, wanted = tmp_path_factory.mktemp("every-command"), cases()
    furnish(root / "furnished")
    (root / "furnished" / "cases.json").write_text(json.dumps(wanted))
    found = {}
    for number, name in enumerate(SETTINGS):
        # What a command writes is there for those after it in its own setting only.
        place = shutil.copytree(root / "furnished", root / str(number) / ODD_PLACE)
        found[name] = answers(place, list(wanted), SETTINGS[name])
    return found


def answers(place: Path, wanted: list[str], setting: Setting) -> dict[str, str]:
    """Return what each case prints in a setting, both streams together."""
    argv = [sys.executable, DRIVER, str(place / "cases.json")]
    env = {**environment(place, **setting.env), "PYTHONIOENCODING": setting.encoding}
    if setting.columns:
        output = on_terminal(argv, setting.columns, place, env)
    else:
        done = subprocess.run(
            argv, cwd=place, env=env, stdin=subprocess.DEVNULL, stdout=-1, stderr=-2
        )
        output = done.stdout
    text = output.decode(setting.encoding)
    _, *parts = text.split(MARK)
    found = {name: answer for name, _, answer in (part.partition("\n") for part in parts)}
    assert list(found) == wanted, text[-2000:]
    return found


def test_every_command_is_among_the_cases():
    typed = [" ".join(words) for _, words in cases().values()]

    for command in all_commands():
        assert any(f"{words} ".startswith(f"{command} ") for words in typed), command
        assert f"{command} --help" in typed


@pytest.mark.parametrize("name", TERMINALS)
def test_no_line_is_wider_than_the_terminal(said, name):
    wide = {
        case: lines
        for case, text in said[name].items()
        if case not in VERBATIM and (lines := too_wide(text, SETTINGS[name].columns))
    }

    assert wide == {}


def test_in_a_pipe_the_first_and_the_last_line_are_whole_and_the_others_of_one_width(said):
    wide = {}
    for case, text in said["a pipe"].items():
        whole = re.compile(r"(?:preflight|next|[\w.]+:\d+): |  fix  ")
        lines = [line for line in too_wide(text, 80) if not whole.match(line)]
        is_help = case == "no words" or case.endswith("--help") or case == "slurm"
        if lines and not is_help and case not in VERBATIM:
            wide[case] = lines

    assert wide == {}
    rewritten = said["a pipe"]["2-rewritten"].splitlines()
    assert rewritten[0].endswith("dies in the first forward pass")
    assert rewritten[-2] == f"next: start it with: {rewritten[-1]}"


@pytest.mark.parametrize("name", SETTINGS)
def test_nothing_but_plain_characters_is_printed(said, name):
    """Ours is ASCII; of a user's path or config, what the encoding lacks is shown escaped."""
    encodable = {letter for letter in "\xfc" if letter.encode(SETTINGS[name].encoding, "ignore")}
    odd = {
        case: letters
        for case, text in said[name].items()
        if (letters := {c for c in text if not (c == "\n" or " " <= c <= "~")} - encodable)
    }

    assert odd == {}


@pytest.mark.parametrize("name", SETTINGS)
def test_no_answer_is_an_accident(said, name):
    accidents = [
        case
        for case, text in said[name].items()
        if not text.strip() or "Traceback" in text or "bug in preflight" in text
    ]

    assert accidents == []


@pytest.mark.parametrize("name", TERMINALS)
def test_a_name_of_many_alphabets_is_shown_as_far_as_the_encoding_goes(said, name):
    shown = ODD_CONFIG.encode(SETTINGS[name].encoding, "backslashreplace")
    text = said[name]["a name of many alphabets"]

    assert f"--- {shown.decode(SETTINGS[name].encoding)}" in text
    assert "fits rewritten" in " ".join(text.split())


@pytest.mark.parametrize("name", TERMINALS)
def test_a_terminal_is_told_what_a_pipe_is_told(said, name):
    """Only where lines end, and what is escaped in a path, may differ."""
    for case in ("3-refused", "1-fits -v", "hooks", "size nobody/nothing", "init", "explain lora"):
        assert said[name][case].split() == said["a pipe"][case].split()


@pytest.mark.parametrize("name", TERMINALS)
def test_a_command_to_copy_is_in_one_line(said, name):
    command = said["a pipe"]["2-rewritten"].splitlines()[-1]
    lines = said[name]["2-rewritten"].splitlines()

    assert command.startswith("accelerate launch ") and len(command) > 200
    assert lines[-3:] == ["next: start it with:", f"  {command}", command]


@pytest.mark.parametrize("width", [40, 80, 95])
def test_help_on_a_terminal_says_all_that_it_says_in_a_pipe_within_the_width(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    for name in all_commands():
        text = printed([*name.split(), "--help"], Terminal)

        assert too_wide(text, width) == []
        assert "".join(text.split()) == "".join(printed([*name.split(), "--help"]).split())


class Terminal(io.StringIO):
    """Text that believes to be on a terminal."""

    def isatty(self) -> bool:
        return True


def printed(words: list[str], stream: type[io.StringIO] = io.StringIO) -> str:
    """Return what one command prints, both streams one after the other."""
    out, err = stream(), stream()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        main(words)
    return out.getvalue() + err.getvalue()


def test_a_terminal_with_bars_and_color_shows_both_and_a_dumb_one_neither(tmp_path, monkeypatch):
    shutil.copytree(EXAMPLES / "2-rewritten", tmp_path / "2-rewritten")
    monkeypatch.chdir(tmp_path / "2-rewritten")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    bright = printed(command_of("2-rewritten"), Terminal)
    monkeypatch.setenv("TERM", "dumb")
    plain = printed(command_of("2-rewritten"), Terminal)

    assert "\x1b[" in bright and "####" in bright
    assert too_wide(re.sub(r"\x1b\[\d+m", "", bright), 100) == []
    assert "\x1b" not in plain and "####" not in plain


@pytest.mark.parametrize("width", [40, 80])
def test_trainings_that_failed_are_told_within_the_width(width):
    failed = ["Trial(num_ranks=2, seq_len=4096): RuntimeError: CUDA error: no kernel image is here"]
    lines = calibration_lines(3, failed, (), os.path.join("site", "records"), Page(width))

    assert too_wide("\n".join(lines[:-1]), width) == []
    assert " ".join(" ".join(lines).split()).count(failed[0]) == 1
