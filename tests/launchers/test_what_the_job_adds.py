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


COUNTS = {
    "torchrun": ("torchrun", "--nproc_per_node", "{}"),
    "torchrun nodes": ("torchrun", "--nproc_per_node", "8", "--nnodes", "{}"),
    "accelerate": ("accelerate", "launch", "--multi_gpu", "--num_processes", "{}"),
    "deepspeed": ("deepspeed", "--num_gpus={}"),
}


@pytest.mark.parametrize(
    "text",
    ["", "NUM_GPUS", "<n>", "{n}", "N", "...", "num_gpus", "number_of_gpus", "xxx", "{number"],
)
@pytest.mark.parametrize("words", COUNTS.values(), ids=COUNTS)
def test_what_stands_for_a_number_of_ranks_is_no_number_and_no_mistake(words, text, tmp_path):
    plan = read([word.replace("{}", text) for word in (*words, "train.py")], tmp_path)

    assert [notice.id for notice in plan.notices if notice.id == "PF115"] == ["PF115"]
    assert plan.origins["world_size"].may_be


@pytest.mark.parametrize("text", ["eight", "2.5", "gpus", "-"])
@pytest.mark.parametrize("words", COUNTS.values(), ids=COUNTS)
def test_what_stands_for_nothing_is_a_mistake(words, text, tmp_path):
    with pytest.raises(BadInput):
        read([word.replace("{}", text) for word in (*words, "train.py")], tmp_path)


NODES = {
    "torchrun": ("torchrun", "--nnodes", "2", "--nproc_per_node", "8", "--master_addr", "a", "--node_rank"),
    "accelerate": (
        *("accelerate", "launch", "--multi_gpu", "--num_machines", "2", "--num_processes", "16"),
        *("--main_process_ip", "a", "--main_process_port", "1", "--machine_rank"),
    ),
    "deepspeed": ("deepspeed", "--num_gpus=8", "--num_nodes=2", "--master_addr=a", "--node_rank"),
}  # fmt: skip


@pytest.mark.parametrize("text", ["<rank>", "{rank}", "NODE_RANK", "$SLURM_NODEID", ""])
@pytest.mark.parametrize("words", NODES.values(), ids=NODES)
def test_a_nodes_rank_that_is_filled_in_on_each_node_is_no_mistake(words, text, tmp_path):
    assert read((*words, text, "train.py"), tmp_path).world_size == 16
    with pytest.raises(BadInput, match="whole number"):
        read((*words, "first", "train.py"), tmp_path)


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
