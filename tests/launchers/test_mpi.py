"""mpirun and mpiexec in front of a Python script: its processes are ranks where it asks MPI who they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from preflight.launch import LaunchCommand, LaunchPlan
from preflight.launchers.all import launch_pattern
from preflight.launchers.mpi import LAUNCHER
from preflight.launchers.mpi.plan import read_options

TRAINER = """from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B")
args = TrainingArguments("out", per_device_train_batch_size=2, bf16=True)
Trainer(model=model, args=args).train()
"""
ASKS = "from mpi4py import MPI\n" + TRAINER


def read(argv: str, folder: Path) -> LaunchPlan | None:
    return LAUNCHER.read(LaunchCommand(tuple(argv.split()), {}, str(folder)))


def read_of(text: str, argv: str, folder: Path) -> LaunchPlan:
    (folder / "train.py").write_text(text)
    plan = read(argv, folder)
    assert plan is not None
    return plan


@pytest.mark.parametrize(
    ("options", "ranks", "nodes"),
    [
        ("-np 8", 8, 1),
        ("-n 16 -ppn 8 -f hosts -genv NCCL_DEBUG INFO", 16, 2),
        ("--allow-run-as-root -np 4 -bind-to none -map-by slot -x A=1 -x PATH -mca pml ob1", 4, 1),
        ("-np 6 -npernode 4 --hostfile hosts --mca btl ^openib", 6, 2),
    ],
)
def test_as_many_ranks_start_as_mpi_is_told(
    options: str, ranks: int, nodes: int, tmp_path: Path
) -> None:
    plan = read_of(ASKS, f"mpirun {options} python train.py", tmp_path)

    assert (plan.world_size, plan.num_nodes) == (ranks, nodes)
    assert (plan.model, plan.micro_batch_size) == ("Qwen/Qwen2.5-0.5B", 2)
    assert not plan.is_open("world_size")


def test_a_script_that_does_not_ask_mpi_may_train_alone_in_each_process(tmp_path: Path) -> None:
    plan = read_of(TRAINER, "mpiexec -n 8 python train.py", tmp_path)

    assert plan.world_size == 8
    assert plan.origins["world_size"].may_be == (1,)
    told = read_of(TRAINER, "mpiexec -n 8 python train.py --deepspeed zero.json", tmp_path)
    assert not told.is_open("world_size")


def test_without_a_number_the_slots_of_the_hosts_decide(tmp_path: Path) -> None:
    plan = read_of(ASKS, "mpirun --hostfile hosts python train.py", tmp_path)

    assert plan.is_open("world_size")


@pytest.mark.parametrize(
    "argv", ["mpirun -np 2 ./all_reduce_perf", "mpirun -np 2 --of-a-newer-release python train.py"]
)
def test_what_is_not_read_is_left(argv: str, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(ASKS)

    assert read(argv, tmp_path) is None


def test_variables_that_mpi_sets_reach_the_script() -> None:
    options = read_options(
        ["mpirun", "-x", "A=1", "-x", "B", "-env", "C", "2", "-np", "2", "python", "train.py"]
    )

    assert options is not None
    assert options.env == {"A": "1", "C": "2"}


def test_a_text_that_starts_python_by_mpi_shows_a_launch() -> None:
    import re

    assert re.search(launch_pattern(), "mpirun -np 2 python examples/train.py")
    assert not re.search(launch_pattern(), "mpirun -np 2 ./all_reduce_perf")
