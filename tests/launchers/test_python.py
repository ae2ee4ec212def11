"""`python train.py`: one process, one rank of several, or several GPUs in one process."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Mapping

import pytest

from preflight.launch import LaunchCommand, LaunchPlan
from preflight.launchers.python import LAUNCHER
from preflight.plugins import load_plugins
from preflight.rewriting import read_launch, write_checked
from preflight.shell.starters.program_names import called
from preflight.unpriced_names import REPLICAS

HF = """from transformers import HfArgumentParser, Trainer, TrainingArguments
HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
"""
SFT = "from trl import SFTConfig, SFTTrainer, TrlParser\n"
LOOP = "import argparse\nfrom accelerate import Accelerator\n"


def command(line: str, env: Mapping[str, str] | None = None) -> LaunchCommand:
    texts = {"train.py": HF, "sft.py": SFT, "loop.py": LOOP}
    overlay = {f"/srv/job/{name}": text for name, text in texts.items()}
    environment = {"HOME": "/nonexistent", "CUDA_VISIBLE_DEVICES": "", **(env or {})}
    return LaunchCommand(tuple(shlex.split(line)), environment, "/srv/job", overlay)


def read(line: str, env: Mapping[str, str] | None = None) -> LaunchPlan:
    plan = LAUNCHER.read(command(line, env))
    assert plan is not None
    return plan


CALLED = {
    "python train.py --a": ("train.py", 1),
    "python3.11 -u train.py": ("train.py", 2),
    "/opt/venv/bin/python -m pkg.train --a": ("pkg.train", 2),
    "python -um pkg.train": ("pkg.train", 2),
    "python -mpkg.train": ("pkg.train", 1),
    "python -W ignore -X dev -O train.py": ("train.py", 6),
    "python -c 'import x' train.py": None,
    "python -": None,
    "python": None,
    "pythonic train.py": ("pythonic", 0),
}


@pytest.mark.parametrize("line", CALLED)
def test_what_python_runs_is_found(line):
    what = called(shlex.split(line))

    assert (what and (what.name, what.position)) == CALLED[line]


@pytest.mark.parametrize("words", ["-u show.py a", "-m show a", "-mshow a", "-O -um show a b"])
def test_python_itself_runs_the_same(words, tmp_path):
    (tmp_path / "show.py").write_text("import sys; print(sys.argv[1:])\n")
    argv = [sys.executable, *shlex.split(words)]
    ran = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=True)
    what = called(argv)

    assert what is not None and ran.stdout.strip() == str(argv[what.first_argument :])


@pytest.mark.parametrize("line", ["python -m pip install x", "python -c 1", "torchrun x.py", "ls"])
def test_another_command_is_not_ours(line):
    assert LAUNCHER.read(command(line)) is None


@pytest.mark.parametrize(
    ("line", "launcher"),
    [
        ("python -m torch.distributed.run --nproc-per-node 2 train.py", "torchrun"),
        ("python -m accelerate.commands.launch --num_processes 1 train.py", "accelerate"),
        ("python -m deepspeed.launcher.runner --num_gpus 2 train.py", "deepspeed"),
        ("python /opt/venv/bin/torchrun --nproc-per-node 2 train.py", "torchrun"),
        ("python train.py", "python"),
    ],
)
def test_a_launcher_that_python_runs_is_that_launcher(line, launcher):
    plan = read_launch(command(line), load_plugins(None))

    assert plan is not None and plan.launcher == launcher


def test_one_process_is_one_rank_and_the_flags_are_the_scripts():
    plan = read("python train.py --per_device_train_batch_size 3 --bf16 true")

    assert (plan.engine, plan.world_size, plan.micro_batch_size) == ("single", 1, 3)
    assert plan.mixed_precision == "bf16"
    assert plan.notices == ()


def test_a_rank_that_something_else_started_counts_the_others():
    env = {"LOCAL_RANK": "1", "RANK": "9", "WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8"}
    plan = read("python train.py", env)

    assert (plan.engine, plan.world_size, plan.num_nodes) == ("ddp", 16, 2)
    assert plan.origins["world_size"].where == "$WORLD_SIZE"


def test_ranks_of_srun_are_counted_where_the_task_says_who_it_is():
    text = "RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS python train.py"
    line = f"srun -N 2 --ntasks-per-node=4 {shlex.join(['bash', '-c', text])}"
    plan = read_launch(command(line), load_plugins(None))

    assert plan is not None
    assert (plan.engine, plan.world_size, plan.num_nodes) == ("ddp", 8, 2)


def test_tasks_of_srun_that_do_not_know_of_each_other_are_said():
    plan = read_launch(command("srun -n 4 python train.py"), load_plugins(None))

    assert plan is not None
    assert [notice.id for notice in plan.notices] == ["PF135"]
    assert "4 processes" in plan.notices[0].message


def test_accelerate_makes_a_group_only_where_local_rank_is_set():
    """What srun sets is not enough: accelerate's own state says one process."""
    code = "from accelerate import PartialState as S; s = S(); print(s.distributed_type, s.num_processes)"
    env = {
        "SLURM_NTASKS": "4",
        "SLURM_PROCID": "2",
        "SLURM_LOCALID": "2",
        "CUDA_VISIBLE_DEVICES": "",
    }
    ran = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )

    assert ran.stdout.split() == ["DistributedType.NO", "1"]


@pytest.mark.parametrize(
    ("script", "ids"), [("train.py", ["PF136"]), ("sft.py", ["PF136"]), ("loop.py", [])]
)
def test_several_gpus_in_one_process_are_said(script, ids):
    plan = read(f"python {script}", {"CUDA_VISIBLE_DEVICES": "0,1"})

    assert [notice.id for notice in plan.notices] == ids
    assert {(notice.unpriced, notice.takes) for notice in plan.notices} <= {(REPLICAS, "more")}
    assert (plan.engine, plan.world_size) == ("single", 1)


def test_a_batch_that_the_trainer_makes_smaller_refuses_nothing():
    plan = read("python train.py --auto_find_batch_size true", {"CUDA_VISIBLE_DEVICES": "0"})

    assert [(notice.id, notice.takes) for notice in plan.notices] == [("PF431", "less")]


def test_trainer_takes_data_parallel_for_what_one_process_sees(tmp_path, monkeypatch):
    """Trainer and TRL are told that two devices are visible; the model is on the CPU all the same."""
    import torch
    from datasets import Dataset
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=16))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    arguments = TrainingArguments(str(tmp_path), per_device_train_batch_size=3, report_to=[])
    trainer = Trainer(model, arguments, train_dataset=Dataset.from_dict({"input_ids": [[1]]}))

    assert arguments.n_gpu == 2
    assert arguments.train_batch_size == 6
    assert isinstance(trainer._wrap_model(model), torch.nn.DataParallel)


@pytest.mark.parametrize(
    "edits",
    [
        {"micro_batch_size": 2, "gradient_accumulation_steps": 2},
        {"activation_checkpointing": "full"},
        {"expandable_segments": True},
    ],
)
def test_a_remedy_is_written_back_and_reads_as_edited(edits):
    before = read("python -u train.py --per_device_train_batch_size 4")
    rewrite = write_checked(before, before.with_edits(edits), load_plugins(None))

    assert rewrite is not None and rewrite.argv[:3] == ("python", "-u", "train.py")
