"""Control characters of files are shown escaped wherever they come out: terminal, log, pages, exceptions (attack T1)."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import in_process
import pytest
from pseudo_terminal import on_terminal
from tiny_llama import TINY_LLAMA

from preflight.errors import BadInput, HookFailed, LaunchRefused, Problem
from preflight.printable import painted, printable, shell_word, text_of, unpainted
from preflight.render.html_page import page

TITLE = "\x1b]0;owned\x07"
COLOR, COPY, CSI, BACKWARDS = "\x1b[32mfits\x1b[0m", "\x1b]52;c;aGk=\x07", "\x9b31m", "\u202estif"
HOSTILE = f"x{TITLE}{COLOR}{COPY}{CSI}{BACKWARDS}\rpreflight: fits"
YAML = r'"x\e]0;owned\a\e[32mfits\e[0m\e]52;c;aGk=\a\x9b31m\u202estif\rpreflight: fits\nnext: all is well"'
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
OWN_COLORS = re.compile("\x1b\\[(?:0|1|31|32|33)m")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "axolotl.yaml").write_text(
        f"base_model: {YAML}\nmicro_batch_size: 1\nsequence_len: 64\noptimizer: adamw_torch\nbf16: true\nattn_implementation: flash_attention_2\nlearning_rate: 1.0e-4\ndatasets: [{{path: x, type: alpaca}}]\n"
    )
    (tmp_path / "accelerate.yaml").write_text(f"distributed_type: {YAML}\n{YAML}: 1\n")
    (tmp_path / "preflight.toml").write_text('[plan]\n"a\\u001b]0;owned\\u0007" = 1\n')
    (tmp_path / "job.sh").write_text(
        f"#!/bin/bash\ntorchrun --nproc_per_node 2 'train{HOSTILE}.py' --per_device_train_batch_size 1\n",
        encoding="utf-8",
    )
    (tmp_path / "config.json").write_text(json.dumps({**TINY_LLAMA, "model_type": HOSTILE}))
    (tmp_path / "runs.yaml").write_text(
        f"schema: 1\nabout: {YAML}\nmodels: {{}}\nruns:\n- id: {YAML}\n  plan: {{engine: {YAML}}}\n"
    )
    return tmp_path


AXOLOTL = ["axolotl", "train", "axolotl.yaml"]
COMMANDS = {
    "check": ["check", "--device", "t4-16", "--", *AXOLOTL],
    "verbose": ["check", "-v", "--device", "t4-16", "--", *AXOLOTL],
    "bad config": ["check", "--", "accelerate", "launch", "--config_file=accelerate.yaml", "x.py"],
    "set": ["check", "--set", f"model={HOSTILE}", "--", "python", "x.py"],
    "bad set": ["check", "--set", f"{HOSTILE}=1", "--", "python", "x.py"],
    "model": ["size", "config.json"],
    "markdown": ["size", "--markdown", "config.json"],
    "command": [f"{HOSTILE}"],
    "launcher": ["check", "--", f"{HOSTILE}", "x"],
    "scan": ["scan", "job.sh"],
    "scan verbose": ["scan", "-v", "job.sh"],
    "runs": ["validate", "runs.yaml"],
    "fix": ["fix", "--device", "t4-16", "--", *AXOLOTL],
    "guard": ["guard"],
    "explain": ["explain", HOSTILE],
    "trace of calls": ["check", "--device", "t4-16", "--", *AXOLOTL],
}


def started(folder: Path, name: str, *more: str) -> subprocess.CompletedProcess[str]:
    if name not in ("guard", "scan", "scan verbose"):
        (folder / "preflight.toml").unlink(missing_ok=True)
    trace = {"PREFLIGHT_TRACE": "1"} if name.startswith("trace") else {}
    return in_process.preflight(folder, *COMMANDS[name], *more, **trace)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_sends_a_control_character_of_a_file_or_an_argument(folder, name):
    done = started(folder, name)
    said = done.stdout + done.stderr

    assert not RAW.search(said), repr(said)
    assert "\nnext: all is well" not in said
    assert "bug in preflight" not in said


def test_the_hostile_values_are_shown(folder):
    assert "x\\x1b]0;owned\\x07\\x1b[32mfits" in started(folder, "bad config").stderr
    assert "\\u009b31m\\u202estif" in started(folder, "verbose").stdout


@pytest.mark.parametrize("name", ["check", "bad config", "scan", "markdown"])
def test_a_terminal_with_color_gets_our_colors_and_nothing_else(folder, name):
    if name == "check":
        (folder / "preflight.toml").unlink()
    argv = [sys.executable, "-m", "preflight.cli", *COMMANDS[name]]
    env = {**os.environ, "TERM": "xterm", "PYTHONIOENCODING": "utf-8"}
    said = on_terminal(argv, 100, folder, env).decode()

    assert not RAW.search(OWN_COLORS.sub("", said)), repr(said)


def test_pages_hold_none_either(folder):
    (folder / "preflight.toml").unlink()
    words = ["--report", "report.html", "--set", f"model_config={json.dumps(TINY_LLAMA)}", "--"]
    done = subprocess.run(
        [sys.executable, "-m", "preflight.cli", "check", *words, *AXOLOTL], cwd=folder
    )
    assert done.returncode == 0
    text = (folder / "report.html").read_text()

    assert "owned" in text and not RAW.search(text)
    assert not RAW.search(page(HOSTILE, [HOSTILE], HOSTILE))


def test_json_stays_json_with_the_value_as_it_is(folder):
    (folder / "preflight.toml").unlink()
    words = ["check", "--format", "json", "--set", "model=a\x7fb\x1b", "--", *AXOLOTL]
    done = subprocess.run(
        [sys.executable, "-m", "preflight.cli", *words], cwd=folder, capture_output=True, text=True
    )

    assert not RAW.search(done.stdout)
    (problem,) = json.loads(done.stdout)["error"]["problems"]
    assert problem["where"] == "--set model=a\x7fb\x1b"


def test_the_texts_of_exceptions_can_be_printed():
    errors = [
        BadInput(Problem(HOSTILE, HOSTILE, HOSTILE)),
        HookFailed(HOSTILE, HOSTILE, HOSTILE),
        LaunchRefused(HOSTILE),
    ]
    assert not any(RAW.search(str(error)) for error in errors)


@pytest.mark.parametrize(
    "word",
    ["plain", "a b", "it's", HOSTILE, "a\nb\t", "caf\udce9", "\\x1b", "é\x9b", "", "$HOME`x`"],
)
def test_a_command_to_copy_is_one_printable_line_that_a_shell_reads_back(word):
    quoted = shell_word(word)
    done = subprocess.run(["bash", "-c", f"printf %s {quoted}"], capture_output=True)

    assert done.stdout == word.encode("utf-8", "surrogateescape")
    assert printable(quoted) == quoted and "\n" not in quoted
    if word.isascii() and word.isprintable():
        assert quoted == shlex.quote(word)


def test_only_what_we_paint_is_painted():
    text = f"{painted('fits', '32')} {HOSTILE}"

    assert printable(text).count("\x1b") == 2
    assert unpainted(text) == f"fits {HOSTILE}"
    assert printable(printable(HOSTILE)) == printable(HOSTILE)
    assert text_of(["a\nb", "c"]) == "a\\nb\nc"
