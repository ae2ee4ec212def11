"""What a script works out of WORLD_SIZE is what its ranks find there."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from preflight.launch import LaunchCommand
from preflight.plugins import load_plugins
from preflight.rewriting import read_launch

SCRIPT = """\
import os
BATCH_SIZE, MICRO = 128, 4
STEPS = BATCH_SIZE // MICRO
world_size = int(os.environ.get("WORLD_SIZE", 1))
ddp = world_size != 1
if ddp:
    STEPS = STEPS // world_size
if os.environ.get("SHOW"):
    os.write(1, f"{STEPS}\\n".encode())  # at once: ranks share the pipe
    raise SystemExit
from transformers import Trainer, TrainingArguments
Trainer(args=TrainingArguments("out", gradient_accumulation_steps=STEPS)).train()
"""
LAUNCHES = {
    "python": ("python", "train.py"),
    "torchrun": ("torchrun", "--nproc_per_node", "2", "train.py"),
    "one": ("torchrun", "train.py"),
}


def read(folder, argv, script=SCRIPT, env=None):
    (folder / "train.py").write_text(script)
    return read_launch(LaunchCommand(tuple(argv), env or {}, str(folder)), load_plugins())


@pytest.mark.libraries  # torchrun is asked
@pytest.mark.parametrize("argv", LAUNCHES.values(), ids=LAUNCHES)
def test_the_script_finds_what_was_read(argv, tmp_path):
    plan = read(tmp_path, argv)
    start = [sys.executable, *(() if argv[0] == "python" else ("-m", "torch.distributed.run"))]
    env = {name: text for name, text in os.environ.items() if name != "WORLD_SIZE"}
    ran = subprocess.run(
        [*start, *argv[1:]],
        cwd=tmp_path,
        env={**env, "SHOW": "1"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert {int(line) for line in ran.stdout.split()} == {plan.gradient_accumulation_steps}


@pytest.mark.parametrize(
    ("argv", "steps"),
    [
        (("accelerate", "launch", "--multi_gpu", "--num_processes", "8", "train.py"), 4),
        (("accelerate", "launch", "--num_processes", "1", "train.py"), 32),
        (("deepspeed", "--num_gpus", "4", "train.py"), 8),
        (("torchrun", "--nnodes", "2", "--nproc_per_node", "8", "train.py"), 2),
    ],
)
def test_every_launcher_says_how_many_ranks_there_are(argv, steps, tmp_path):
    assert read(tmp_path, argv).gradient_accumulation_steps == steps


@pytest.mark.parametrize(
    ("argv", "script"),
    [
        (("torchrun", "--nproc_per_node", "N", "train.py"), SCRIPT),
        (("torchrun", "--nnodes", "1:4", "--nproc_per_node", "8", "train.py"), SCRIPT),
        (("python", "train.py"), f"{SCRIPT}import torch\ntorch.multiprocessing.spawn(main)\n"),
        (("python", "train.py"), f"import os\nos.environ['WORLD_SIZE'] = ask()\n{SCRIPT}"),
    ],
)
def test_what_nobody_says_is_not_worked_out(argv, script, tmp_path):
    plan = read(tmp_path, argv, script)

    assert any("gradient_accumulation_steps" in notice.message for notice in plan.notices)


def test_the_callers_own_variable_says_nothing(tmp_path):
    plan = read(tmp_path, LAUNCHES["torchrun"], env={"WORLD_SIZE": "64"})

    assert plan.gradient_accumulation_steps == 16


DIVIDED = """\
import torch
import torch.distributed as dist
from accelerate import Accelerator, PartialState
from transformers import Trainer, TrainingArguments

from pools import Pool, group

accelerator, pool = Accelerator(), Pool(2)
state = PartialState()
args = TrainingArguments("out", per_device_train_batch_size={rows})
Trainer(args=args).train()
"""
TORCHRUN = ("torchrun", "--nnodes", "2", "--nproc_per_node", "4", "train.py")
ACCELERATE = ("accelerate", "launch", "--multi_gpu", "--num_processes", "8", "train.py")


@pytest.mark.parametrize(
    ("rows", "argv", "micro"),
    [
        ("64 // accelerator.num_processes", ACCELERATE, 8),
        ("64 // state.num_processes", TORCHRUN, 8),
        ("int(32 / dist.get_world_size())", TORCHRUN, 4),
        ("max(1, 4 // torch.distributed.get_world_size())", TORCHRUN, 1),
        ("64 // dist.get_world_size(group)", TORCHRUN, None),
        ("64 // pool.num_processes", TORCHRUN, None),
        ("64 // pool.get_world_size()", TORCHRUN, None),
        ("64 // accelerator.num_processes", ("python", "train.py"), None),
        ("64 // dist.get_world_size()", ("torchrun", "--nproc_per_node", "N", "train.py"), None),
    ],
)
def test_a_batch_is_divided_by_the_ranks_that_accelerate_and_torch_count(
    rows, argv, micro, tmp_path
):
    assert read(tmp_path, argv, DIVIDED.format(rows=rows)).micro_batch_size == micro
