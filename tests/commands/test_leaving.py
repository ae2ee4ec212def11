"""A command leaves at once, and loses nothing that was to come at the end."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from toy import HOOKS, launch, make

AT_THE_END = {
    "a function for the end": "atexit.register(print, 'said at the end')",
    "a thread that still runs": "threading.Thread(target=later, daemon=False).start()",
}
LATER = """
import atexit, threading, time

def later():
    time.sleep(0.3)
    print("said at the end", flush=True)

@hookimpl
def preflight_reported(report):
    {}
"""


def left(folder, *args):
    """Run a command as its users do."""
    return subprocess.run(
        [sys.executable, "-m", "preflight", *args],
        cwd=folder,
        env={**os.environ, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("what", AT_THE_END.values(), ids=AT_THE_END)
def test_what_a_plugin_leaves_for_the_end_is_done(what, tmp_path):
    make(tmp_path)
    (tmp_path / "preflight_hooks.py").write_text(HOOKS + LATER.format(what))
    done = left(tmp_path, "check", "--device", "tiny:1", "--", *launch(1))

    assert done.returncode == 0, done.stderr
    assert "said at the end" in done.stdout
    assert done.stdout.startswith("preflight: ")


@pytest.mark.parametrize(("micro", "code"), [(1, 0), (64, 1)])
def test_an_exit_code_says_the_answer(micro, code, tmp_path):
    done = left(make(tmp_path), "check", "--device", "tiny:1", "--", *launch(micro))

    assert done.returncode == code, done.stderr


def test_whoever_profiles_the_command_sees_its_end(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "cProfile", "-m", "preflight", "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    assert "function calls" in done.stdout


def test_a_folder_of_the_launch_gives_the_start_no_module(tmp_path):
    for name in ("typing", "atexit", "gc", "threading"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('of the folder')\n")
    done = left(tmp_path, "--version")

    assert (done.returncode, done.stderr) == (0, "")
