"""A training script that is not there is named, and what the launch says is judged all the same."""

from __future__ import annotations

import subprocess
import sys

import pytest

from preflight.launch import LaunchCommand
from preflight.pipeline import check_launch
from preflight.plugins import load_plugins
from preflight.request import Request
from preflight.verdict import Answer

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


BIG = "--model_name_or_path meta-llama/Llama-3.1-8B --per_device_train_batch_size 1 --max_length 2048 --bf16 true"
HUGE = BIG.replace("Llama-3.1-8B", "Llama-3.1-405B")
TRAINS = """\
import transformers
from dataclasses import dataclass
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments


@dataclass
class Arguments:
    model_name_or_path: str
    max_length: int = 512


parser = HfArgumentParser((Arguments, TrainingArguments))
own, args = parser.parse_args_into_dataclasses()
model = AutoModelForCausalLM.from_pretrained(own.model_name_or_path)
tokenizer(rows, truncation=True, max_length=own.max_length)
Trainer(model=model, args=args).train()
"""


def answer(line, folder):
    command = LaunchCommand(tuple(line.split()), {}, str(folder))
    return check_launch(command, load_plugins(), Request("l40s-48")).verdict.answer


def test_nothing_is_refused_for_a_script_that_nobody_read(tmp_path):
    """With an adapter, fewer bits or checkpointing it may fit; what holds in no reading is refused all the same."""
    of_nobody = answer(f"torchrun --nproc-per-node 1 train.py {BIG}", tmp_path)
    too_big = answer(f"torchrun --nproc-per-node 1 train.py {HUGE}", tmp_path)
    (tmp_path / "train.py").write_text(TRAINS)
    read_whole = answer(f"torchrun --nproc-per-node 1 train.py {BIG}", tmp_path)

    assert of_nobody is Answer.UNKNOWN
    assert too_big is Answer.DOES_NOT_FIT
    assert read_whole is Answer.DOES_NOT_FIT
