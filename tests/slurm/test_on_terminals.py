"""What is said about jobs on a real cluster keeps to the width of a terminal, to plain characters and to its end."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from pseudo_terminal import on_terminal, too_wide
from test_sbatch import EXAMPLES, HUGE, MIDDLE, SMALL, queued, script

UNCHECKPOINTED = "--gradient_checkpointing false"
MIXED = f"{UNCHECKPOINTED} --per_device_train_batch_size 1"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(EXAMPLES, folder)
    for name, model, flags in (
        ("fits.sh", SMALL, ""),
        ("huge.sh", HUGE, ""),
        ("some.sh", MIDDLE, MIXED),
        ("rewritten.sh", MIDDLE, UNCHECKPOINTED),
    ):
        (folder / name).write_text(script(model, flags))
    (folder / "unknown.sh").write_text("#!/bin/bash\n#SBATCH --gres=gpu:8\nsrun ./train\n")
    return folder


@pytest.mark.parametrize("columns", [40, 80])
def test_every_answer_about_a_job_keeps_to_the_width(cluster, project, columns):
    env = cluster.environment(TERM="dumb", PYTHONIOENCODING="ascii")
    for words, told in (
        ("sbatch -H -p h100 fits.sh", "Submitted batch job"),
        ("sbatch --explain -H -p h100 fits.sh", "Submitted batch job"),
        ("sbatch -p h100 huge.sh", "submits it unchecked"),
        ("sbatch --warn -H -p h100 huge.sh", "Submitted batch job"),
        ("sbatch -H -p a100 some.sh", "Submitted batch job"),
        ("sbatch -p h100 rewritten.sh", "it fits: preflight sbatch --fix -p h100 rewritten.sh"),
        ("sbatch --fix -H -p h100 rewritten.sh", "Submitted batch job"),
        ("sbatch -H -p h100 unknown.sh", "Submitted batch job"),
        ("srun --test-only -p h100 --gpus=8 torchrun train_sft.py", "next: submitted unchecked"),
        ("slurm audit .", "next: nothing was stopped"),
    ):
        argv = [sys.executable, "-m", "preflight", *words.split()]
        text = on_terminal(argv, columns, project, env).decode("ascii")
        ours = "\n".join(line for line in text.splitlines() if not line.startswith("srun: "))

        assert too_wide(ours, columns) == [], words
        assert "\x1b" not in text and "Traceback" not in text
        assert told in " ".join(text.split()), words
    assert len(queued(cluster)) == 6
