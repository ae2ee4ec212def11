"""Lightning's Trainer starts its ranks itself: as many as it is told, all GPUs of the node where it is told nothing."""

from __future__ import annotations

import pytest

from preflight.launch import LaunchCommand
from preflight.plugins import load_plugins
from preflight.rewriting import read_launch

SCRIPT = """\
import argparse
{imports}
from transformers import AutoModelForCausalLM
parser = argparse.ArgumentParser()
parser.add_argument("--gpus", type=int, default=4)
args = parser.parse_args()
model = AutoModelForCausalLM.from_pretrained("gpt2")
{made}({arguments}).fit(model)
"""
WAYS = {
    "pl": ("import pytorch_lightning as pl", "pl.Trainer"),
    "L": ("import lightning as L", "L.Trainer"),
    "from": ("from lightning.pytorch import Trainer", "Trainer"),
    "fabric": ("import lightning", "lightning.Fabric"),
}


def read(folder, arguments, way="pl", argv=("python", "train.py")):
    imports, made = WAYS[way]
    text = SCRIPT.format(imports=imports, made=made, arguments=arguments)
    (folder / "train.py").write_text(text)
    return read_launch(LaunchCommand(argv, {}, str(folder)), load_plugins())


@pytest.mark.parametrize("way", WAYS)
def test_all_gpus_of_the_node_are_taken_where_nothing_is_said(way, tmp_path):
    """Taken for one process, such a launch was said to fit without DDP's buckets."""
    plan = read(tmp_path, "max_epochs=1", way)

    assert plan.engine == "ddp"
    assert len(plan.origins["world_size"].may_be) > 1


@pytest.mark.parametrize(
    ("arguments", "ranks"),
    [
        ("devices=2", 2),
        ("devices='2'", 2),
        ("devices=[0, 3], num_nodes=2", 4),
        ("gpus=args.gpus", 4),
        ("accelerator='gpu', devices=8, strategy='ddp'", 8),
    ],
)
def test_the_ranks_are_those_that_it_is_told(arguments, ranks, tmp_path):
    plan = read(tmp_path, arguments)

    assert (plan.engine, plan.world_size) == ("ddp", ranks)
    assert not plan.origins["engine"].may_be


@pytest.mark.parametrize("arguments", ["devices=1", "accelerator='cpu'", "accelerator='cpu', devices=4"])  # fmt: skip
def test_one_gpu_or_none_starts_no_ranks(arguments, tmp_path):
    plan = read(tmp_path, arguments)

    assert (plan.engine, plan.world_size) == ("single", 1)


@pytest.mark.parametrize("arguments", ["devices='auto'", "devices=-1", "devices=2, num_nodes=nodes()"])  # fmt: skip
def test_what_only_running_tells_is_open(arguments, tmp_path):
    assert read(tmp_path, arguments).origins["world_size"].may_be


def test_another_strategy_leaves_the_engine_open(tmp_path):
    assert read(tmp_path, "devices=4, strategy='deepspeed_stage_2'").origins["engine"].may_be


def test_a_trainer_of_another_library_starts_none(tmp_path):
    (tmp_path / "train.py").write_text(
        "from composer import Trainer\nTrainer(devices=4).fit(model)\n"
    )
    plan = read_launch(LaunchCommand(("python", "train.py"), {}, str(tmp_path)), load_plugins())

    assert plan.world_size == 1
