"""Streams that are closed, full or left by their reader: every launch starts, and every code is the right one."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from toy import launch, make

DEVICE = ("--device", "tiny:0.25")
STREAMS = (
    ">&-",
    "2>&-",
    ">&- 2>&-",
    "<&- >&- 2>&-",
    ">/dev/full",
    "2>/dev/full",
    ">/dev/full 2>&1",
)
WORKER = """\
import json, os, sys
def is_open(number):
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
seen = {"open": [n for n in range(20) if is_open(n)], "argv": sys.argv[1:]}
open("started.json", "x").write(json.dumps(seen))
sys.exit(7)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make(tmp_path)
    (tmp_path / "worker.py").write_text(WORKER)
    return tmp_path


def shell(
    folder: Path, words: tuple[str, ...], streams: str, **env: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f"{shlex.join(words)} {streams}"],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
    )


def preflight(*args: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "preflight", *args)


@pytest.mark.parametrize("streams", STREAMS)
@pytest.mark.parametrize("mode", ["", "off"])
def test_a_launch_starts_whatever_its_streams_are_and_gets_them_as_they_were(folder, streams, mode):
    done = shell(folder, preflight("run", *DEVICE, "--", *launch(1)), streams, PREFLIGHT=mode)
    seen = json.loads((folder / "started.json").read_text())
    (folder / "started.json").unlink()
    plain = shell(folder, tuple(launch(1)), streams)

    assert done.returncode == plain.returncode == 7
    # The worker's own file takes the lowest number in both.
    assert seen == json.loads((folder / "started.json").read_text())


def test_a_reader_who_leaves_stops_no_launch(folder):
    done = shell(folder, preflight("run", *DEVICE, "--", *launch(1)), "2>&1 | true")

    assert done.returncode == 0
    assert (folder / "started.json").exists()


@pytest.mark.parametrize("streams", STREAMS)
def test_a_refusal_keeps_its_code(folder, streams):
    done = shell(folder, preflight("run", "--device", "tiny:0.05", "--", *launch(4)), streams)

    assert done.returncode == 78
    assert not (folder / "started.json").exists()


@pytest.mark.parametrize("streams", STREAMS)
@pytest.mark.parametrize(("size", "code"), [("0.25", 0), ("0.05", 1)])
def test_a_check_ends_with_its_own_code(folder, streams, size, code):
    done = shell(folder, preflight("check", "--device", f"tiny:{size}", "--", *launch(1)), streams)

    assert done.returncode == code
    assert "bug" not in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("streams", "reason"),
    [(">/dev/full", "No space left on device"), (">&-", "it is closed")],
)
def test_an_answer_that_is_lost_is_told_in_one_line(folder, streams, reason):
    done = shell(folder, preflight("check", *DEVICE, "--", *launch(1)), streams)

    assert done.stderr == f"preflight: the answer could not be written to stdout: {reason}\n"


@pytest.mark.parametrize("streams", STREAMS)
@pytest.mark.parametrize("args", [("--help",), ("--version",), ("explain",), ("check", "--help")])
def test_no_command_calls_a_stream_a_bug(folder, streams, args):
    done = shell(folder, preflight(*args), streams)

    assert done.returncode == 0
    assert "bug" not in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("streams", [">&-", "2>&-", ">&- 2>&-", "2>/dev/full", ">/dev/full 2>&1"])
@pytest.mark.parametrize("mode", ["", "off"])
def test_a_job_is_submitted_whatever_its_streams_are(folder, streams, mode):
    (folder / "bin").mkdir()
    sbatch = folder / "bin" / "sbatch"
    sbatch.write_text('#!/bin/sh\necho "$@" > submitted\nexit 5\n')
    sbatch.chmod(0o755)
    (folder / "job.sh").write_text("#!/bin/bash\n#SBATCH --gres=gpu:1\ntorchrun train.py\n")
    path = f"{folder / 'bin'}:/usr/bin:/bin"
    done = shell(folder, preflight("sbatch", "job.sh"), streams, PATH=path, PREFLIGHT=mode)

    assert done.returncode == 5
    assert (folder / "submitted").read_text() == "job.sh\n"
