"""Words that the launch's own job adds: variables that nobody has set here, and what a submitting script puts in."""

from __future__ import annotations

import pytest

from preflight.errors import BadInput
from preflight.launch import LaunchCommand
from preflight.plugins import load_plugins
from preflight.rewriting import read_launch


def read(words, folder):
    (folder / "submit.py").write_text("")
    (folder / "train.py").write_text("import torch\nloss.backward()\n")
    plan = read_launch(LaunchCommand(tuple(words), {}, str(folder)), load_plugins())
    assert plan is not None
    return plan


@pytest.mark.parametrize("nodes", [":", ""])
def test_nodes_that_a_variable_counts_leave_the_ranks_open(nodes, tmp_path):
    words = ("torchrun", "--nnodes", nodes, "--nproc-per-node", "8", "--node_rank", "", "train.py")
    plan = read(words, tmp_path)

    assert [notice.id for notice in plan.notices if notice.id == "PF115"] == ["PF115"]
    assert plan.origins["world_size"].may_be


def test_a_count_that_a_variable_gives_leaves_the_ranks_open(tmp_path):
    plan = read(("torchrun", "--nproc-per-node", "", "train.py"), tmp_path)

    assert plan.origins["world_size"].may_be


SEVERAL = (
    *("accelerate", "launch", "--num_machines", "2", "--num_processes", "16", "--multi_gpu"),
    "train.py",
)


def test_a_script_that_submits_says_where_the_nodes_meet(tmp_path):
    plan = read(("python", "submit.py", "--num_nodes", "2", "--", *SEVERAL), tmp_path)

    assert (plan.world_size, plan.num_nodes) == (16, 2)
    with pytest.raises(BadInput, match="machine_rank"):
        read(SEVERAL, tmp_path)


def test_a_trainer_of_somebodys_own_has_no_defaults_of_transformers(tmp_path):
    files = "from olmo.train import Trainer\nTrainer(model=model).fit()\n"
    (tmp_path / "own.py").write_text(files)
    command = LaunchCommand(("torchrun", "own.py"), {}, str(tmp_path))
    plan = read_launch(command, load_plugins())

    assert plan is not None
    assert (plan.trainer, plan.micro_batch_size) == (None, None)
