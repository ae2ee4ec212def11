"""Whatever surrounds a command, its answer is one: odd environments, odd .preflight/, and a kill at any moment."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "2-rewritten"
CONFIG = "f\u00fcnf \u4e2d.yaml"
FLAGS = (
    *("--model_name_or_path", "meta-llama/Llama-3.1-8B", "--max_length", "16384", "--bf16", "True"),
    *("--per_device_train_batch_size", "1", "--gradient_accumulation_steps", "4"),
)
ENVIRONMENTS: dict[str, dict[str, str | None]] = {
    "no home": {"HOME": None},
    "a home that is not there": {"HOME": "/nonexistent", "XDG_CONFIG_HOME": "", "USER": ""},
    "a home that is a file": {"HOME": "/etc/passwd"},
    "plain C": {"LC_ALL": "C", "LANG": None, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "a locale that is not there": {"LC_ALL": "xx_YY.KOI8-R"},
    "ASCII streams": {"PYTHONIOENCODING": "ascii"},
    "no place for drafts": {"TMPDIR": "/nonexistent"},
    "no columns": {"COLUMNS": "0"},
    "columns that are no number": {"COLUMNS": "-x"},
    "a very wide terminal": {"COLUMNS": "1000000"},
    "no path": {"PATH": ""},
    "no terminal": {"TERM": None, "NO_COLOR": "", "FORCE_COLOR": "1"},
    "a time zone that is not there": {"TZ": "Nowhere/Else"},
    "numbers that are none": {"CUDA_VISIBLE_DEVICES": "x,", "WORLD_SIZE": "many", "NNODES": "?"},
    "in a job of nothing": {"SLURM_JOB_ID": "x", "SLURM_JOB_NODELIST": "n[", "SLURM_NNODES": "-"},
    "warnings are errors": {"PYTHONWARNINGS": "error"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / CONFIG).write_text((EXAMPLE / "fsdp2.yaml").read_text())
    (tmp_path / "train.py").write_text((EXAMPLE / "train.py").read_text())
    return tmp_path


def words(command: str, *own: str) -> list[str]:
    launch = ("accelerate", "launch", "--config_file", CONFIG, "train.py", *FLAGS)
    own = (*own, "--device", "h100-sxm-80")
    return [sys.executable, "-m", "preflight", command, *own, "--", *launch]


def answer(
    folder: Path, argv: list[str], **changes: str | None
) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in {**os.environ, **changes}.items() if v is not None}
    return subprocess.run(
        argv, cwd=folder, env=env, capture_output=True, text=True, errors="replace"
    )


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_odd_environment_changes_no_answer(name, folder):
    done = answer(folder, words("check", "-v"), **ENVIRONMENTS[name])

    assert done.returncode == 1, done.stderr  # it fits rewritten
    assert "does not fit as written, fits rewritten" in " ".join(
        re.sub("\x1b\\[\\d+m", "", done.stdout).split()
    )
    assert "bug" not in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "kind",
    ["file", "pipe", "loop", "dangling", "a folder of the copy's name", "a pipe of its name"],
)
def test_an_odd_place_for_copies_is_told_or_passed_by_and_nothing_is_written_through_it(
    kind, folder
):
    place = folder / ".preflight"
    copy = place / CONFIG
    if kind == "file":
        place.write_text("mine")
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "loop":
        place.symlink_to(place)
    elif kind == "dangling":
        place.symlink_to(folder / "elsewhere")
    else:
        place.mkdir()
        copy.mkdir() if "folder" in kind else os.mkfifo(copy)
    before = place.lstat()
    done = answer(folder, words("fix"))

    assert done.returncode in (0, 2), done.stderr
    assert "bug" not in done.stderr and "Traceback" not in done.stderr
    assert not (folder / "elsewhere").exists()
    assert (place.lstat().st_ino, place.lstat().st_mode) == (before.st_ino, before.st_mode)
    if "pipe of" in kind:  # its name is given to the copy, and nobody waits for a reader
        assert "fsdp_reshard_after_forward" in copy.read_text()


def test_a_kill_at_any_moment_leaves_the_users_files_and_no_half_copy(folder):
    config = (folder / CONFIG).read_bytes()
    answer(folder, words("fix"))
    place = folder / ".preflight"
    whole = {path.name: path.read_bytes() for path in place.iterdir() if path.name != ".gitignore"}
    started = time.perf_counter()
    answer(folder, words("fix"))
    seconds = time.perf_counter() - started
    num_killed = 0
    for number in range(20):
        for path in place.iterdir():
            path.unlink()
        process = subprocess.Popen(
            words("fix"), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(seconds * (0.5 + number / 40))
        process.send_signal(signal.SIGKILL)
        num_killed += process.wait() == -signal.SIGKILL

        assert (folder / CONFIG).read_bytes() == config
        for path in place.iterdir():
            if not path.name.endswith(".part") and path.name != ".gitignore":
                assert path.read_bytes() == whole[path.name]

    assert num_killed > 3
    assert answer(folder, words("fix")).returncode == 0
