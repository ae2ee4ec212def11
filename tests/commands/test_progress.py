"""Progress is a line that goes when the work is done, plain lines in a log, and nothing for short work."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from pseudo_terminal import on_terminal

from preflight.commands import progress

ROOT = Path(__file__).parents[2]


def test_progress_is_plain_lines_in_a_log(monkeypatch, capsys):
    monkeypatch.setattr(progress, "SECONDS_BEFORE_PROGRESS", 0.0)
    with progress.progress(2000, "MiB of the dataset") as done:
        for count in (1, 1500, 2000):
            done(count)

    # The next line would come five seconds later.
    assert capsys.readouterr().err == "preflight: 1 of 2,000 MiB of the dataset\n"


def test_steps_are_plain_lines_in_a_log(monkeypatch, capsys):
    monkeypatch.setattr(progress, "SECONDS_BEFORE_PROGRESS", 0.0)
    with progress.steps("tracing") as doing:
        doing("building the model")
        doing("step 1 of 2")

    assert capsys.readouterr().err == (
        "preflight: tracing, building the model\npreflight: tracing, step 1 of 2\n"
    )


def test_many_short_steps_do_not_fill_a_log(monkeypatch, capsys):
    monkeypatch.setattr(progress, "SECONDS_BEFORE_PROGRESS", 0.0)
    with progress.steps("scanning", 5.0) as doing:
        for number in range(400):
            doing(f"run{number}.sh")

    assert capsys.readouterr().err == "preflight: scanning, run0.sh\n"


@pytest.mark.parametrize(
    ("shown", "words"),
    [("progress(2000, 'runs')", ["runs", "75%"]), ("steps('tracing')", ["tracing, 1500"])],
)
def test_on_a_terminal_it_is_one_line_that_goes_when_the_work_is_done(tmp_path, shown, words):
    script = (
        "from preflight.commands import progress\n"
        "progress.SECONDS_BEFORE_PROGRESS = 0.0\n"
        f"with progress.{shown} as done:\n"
        "    done(1500)\n"
        "print('THE REPORT')\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    written = on_terminal([sys.executable, "-c", script], 80, tmp_path, env).decode()
    before, _, after = written.partition("THE REPORT")

    assert all(word in before for word in words), written
    assert before.endswith("\x1b[2K") and after == "\n"  # the line is erased


def test_short_work_shows_no_progress(capsys):
    with progress.progress(10, "runs") as done:
        done(5)

    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("shown", "line"),
    [
        (lambda: progress.progress(12, "jobs"), "preflight: 0 of 12 jobs\n"),
        (lambda: progress.steps("tracing"), "preflight: tracing\n"),
    ],
)
def test_work_that_says_nothing_is_shown_once_people_wait(shown, line, monkeypatch, capsys):
    monkeypatch.setattr(progress, "SECONDS_BEFORE_PROGRESS", 0.02)
    with shown():
        time.sleep(0.5)

    assert capsys.readouterr().err == line


def test_a_step_that_lasts_is_shown_though_it_began_before_people_waited(monkeypatch, capsys):
    monkeypatch.setattr(progress, "SECONDS_BEFORE_PROGRESS", 0.02)
    with progress.steps("tracing") as doing:
        doing("importing torch")
        time.sleep(0.5)

    assert capsys.readouterr().err == "preflight: tracing, importing torch\n"
