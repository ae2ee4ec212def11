"""A training script that is not there is named, and what the launch says is judged all the same."""

from __future__ import annotations

import subprocess
import sys

import pytest

from preflight.launch import LaunchCommand
from preflight.plugins import load_plugins

LAUNCHES = [
    "accelerate launch --num_processes 2 {script} --model_name_or_path gpt2 --max_length 512",
    "torchrun --nproc-per-node 2 {script} --bf16",
    "deepspeed --num_gpus 2 {script}",
    "python {script}",
    "srun -n 1 torchrun --nproc-per-node 2 {script}",
]


def read(line, folder):
    command = LaunchCommand(tuple(line.split()), {}, str(folder))
    from preflight.rewriting import read_launch

    return read_launch(command, load_plugins())


@pytest.mark.parametrize("line", LAUNCHES)
def test_a_script_that_is_not_there_is_named(line, tmp_path):
    plan = read(line.format(script="./runs/train.py"), tmp_path)
    (said,) = [notice for notice in plan.notices if notice.id == "PF128"]
    ran = subprocess.run(
        [sys.executable, "./runs/train.py"], cwd=tmp_path, capture_output=True, text=True
    )

    assert (said.severity, said.where) == ("error", "./runs/train.py")
    assert "does not exist" in said.message and str(tmp_path / "runs" / "train.py") in said.fix
    assert ran.returncode == 2 and "can't open file" in ran.stderr


@pytest.mark.parametrize("line", LAUNCHES)
def test_a_script_that_is_there_is_not(line, tmp_path):
    (tmp_path / "train.py").write_text("import torch\n")
    plan = read(line.format(script="train.py"), tmp_path)

    assert [notice for notice in plan.notices if notice.id == "PF128"] == []


@pytest.mark.parametrize(
    "line",
    [
        "docker run image torchrun --nproc-per-node 2 /workspace/train.py",
        "torchrun --nproc-per-node 2 -m package.train",
        "python submit.py -- torchrun --nproc-per-node 2 train.py",
        "trl sft --model_name_or_path gpt2",
    ],
)
def test_a_script_that_may_be_elsewhere_is_not(line, tmp_path):
    (tmp_path / "submit.py").write_text("")
    plan = read(line, tmp_path)

    assert [notice for notice in plan.notices if notice.id == "PF128"] == []
