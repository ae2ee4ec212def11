"""A working folder that somebody removed: a clear error or an answer, never a bug, and no guard stops a launch for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_llama import TINY_LLAMA
from toy import launch, make

GONE = "the folder that this command was started in is gone"
CONFIG = {**TINY_LLAMA, "architectures": ["LlamaForCausalLM"]}


def start_in_a_gone_folder(folder: Path, words: list[str], **env: str):
    (folder / "gone").mkdir()
    return subprocess.run(
        ["bash", "-c", 'cd gone && rmdir ../gone && exec "$@"', "bash", *words],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
    )


def preflight(folder: Path, *args: str, **env: str):
    return start_in_a_gone_folder(folder, [sys.executable, "-m", "preflight", *args], **env)


@pytest.mark.parametrize(
    "args",
    [
        ("check", "--", *launch(1)),
        ("check", "--", "accelerate", "launch", "train.py"),
        ("fix", "--", *launch(1)),
        ("estimate", "plan.yaml"),
        ("size", "config.json", "--device", "h100-sxm-80"),
        ("size", "meta-llama/Llama-3.1-8B"),
        ("validate", "--history"),
        ("scan", "."),
        ("init", "--repo"),
        ("init", "--model", "meta-llama/Llama-3.1-8B"),
        ("guard",),
        ("hooks",),
        ("probe",),
        ("history",),
        ("explain", "PF101"),
    ],
    ids=" ".join,
)
def test_no_command_calls_it_a_bug(tmp_path, args):
    done = preflight(tmp_path, *args)

    assert done.returncode in (0, 1, 2), done.stderr
    assert "bug" not in done.stderr and "Traceback" not in done.stderr


def test_a_check_says_it(tmp_path):
    done = preflight(tmp_path, "check", "--", *launch(1))

    assert (done.returncode, done.stderr.splitlines()[0]) == (2, f"preflight: {GONE}")


def test_json_says_it(tmp_path):
    done = preflight(tmp_path, "check", "--format", "json", "--", *launch(1))

    assert json.loads(done.stdout)["error"]["problems"][0]["message"] == GONE


def test_run_says_it_and_starts_nothing_and_off_starts_what_is_asked(tmp_path):
    make(tmp_path)
    words = [sys.executable, "-c", "print('started')"]
    done = preflight(tmp_path, "run", "--", *words)
    off = preflight(tmp_path, "run", "--", *words, PREFLIGHT="off")

    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.splitlines()[0] == f"preflight: {GONE}"
    assert done.stderr.splitlines()[-1] == "next: nothing was started"
    assert (off.returncode, off.stdout) == (0, "started\n")


def test_a_job_is_submitted(tmp_path):
    sbatch = tmp_path / "sbatch"
    sbatch.write_text("#!/bin/sh\necho submitted\nexit 5\n")
    sbatch.chmod(0o755)
    job = tmp_path / "job.sh"
    job.write_text("#!/bin/bash\n#SBATCH --gres=gpu:1\ntorchrun train.py\n")
    done = preflight(tmp_path, "sbatch", str(job), PATH=f"{tmp_path}:/usr/bin:/bin")

    assert (done.returncode, done.stdout) == (5, "submitted\n")


def test_a_guard_lets_the_launch_start(tmp_path):
    script = tmp_path / "train.py"
    script.write_text("import sys\n# import torch\nsys.exit(7)\n")
    code = (
        "import sys, runpy; sys.orig_argv = [sys.executable, *sys.argv[1:]]\n"
        "from preflight.embedded.guard_doors import at_startup\n"
        "at_startup()\nrunpy.run_path(sys.argv[1], run_name='__main__')\n"
    )
    words = [sys.executable, "-c", code, str(script)]
    done = start_in_a_gone_folder(tmp_path, words, PREFLIGHT="enforce")

    assert done.returncode == 7, done.stderr
    assert "next: the launch starts unchecked" in done.stderr
