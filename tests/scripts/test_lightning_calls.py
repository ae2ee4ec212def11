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


@pytest.mark.parametrize(
    ("precision", "mixed", "dtype"),
    [
        ("'bf16-mixed'", "bf16", "fp32"),
        ("'bf16'", "bf16", "fp32"),
        ("16", "fp16", "fp32"),
        ("'16-mixed'", "fp16", "fp32"),
        ("'bf16-true'", "no", "bf16"),
        ("'16-true'", "no", "fp16"),
        ("32", "no", "fp32"),
        ("None", "no", "fp32"),
    ],
)
def test_its_precision_is_read(precision, mixed, dtype, tmp_path):
    """What is no `-mixed` casts the whole module, whatever it was loaded in."""
    (tmp_path / "requirements.txt").write_text("transformers==4.48.1\n")
    plan = read(tmp_path, f"devices=2, precision={precision}")

    assert (plan.mixed_precision, plan.load_dtype) == (mixed, dtype)
    assert not plan.origins["mixed_precision"].may_be


@pytest.mark.parametrize("said", ["precision=pick()", "plugins=[BitsandbytesPrecision('nf4')]"])
def test_a_precision_that_only_running_tells_is_open(said, tmp_path):
    plan = read(tmp_path, f"devices=2, {said}")

    assert plan.origins["mixed_precision"].may_be
    assert plan.origins["load_dtype"].may_be


def test_its_gradients_are_read(tmp_path):
    plan = read(tmp_path, "devices=2, accumulate_grad_batches=8, gradient_clip_val=1.0")

    assert (plan.gradient_accumulation_steps, plan.max_grad_norm) == (8, 1.0)


def test_rows_that_it_validates_are_those_of_the_other_loader(tmp_path):
    rows = "DataLoader(train_rows, batch_size=2), DataLoader(rows, batch_size=64)"
    text = SCRIPT.format(imports=WAYS["pl"][0], made="pl.Trainer", arguments="devices=2")
    text = text.replace(".fit(model)", f".fit(Own(model), {rows})")
    text += "class Own(pl.LightningModule):\n    def validation_step(self, batch): ...\n"
    (tmp_path / "train.py").write_text(text)
    plan = read_launch(LaunchCommand(("python", "train.py"), {}, str(tmp_path)), load_plugins())

    assert (plan.micro_batch_size, plan.eval_micro_batch_size) == (2, 64)


OF_ITS_OWN = """\
import lightning as L
import torch
from lightning.fabric.strategies import FSDPStrategy
from network import Network

batch_size = 5

def main(devices: int = 4):
    fabric = L.Fabric(devices=devices, precision="bf16-mixed", strategy={strategy})
    fabric.launch()
    model = fabric.setup_module(Network())
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
    for rows in torch.utils.data.DataLoader(read(), batch_size=batch_size):
        fabric.backward(model(rows))
        optimizer.step()

from jsonargparse import CLI
CLI(main)
"""


def test_ranks_are_read_of_a_script_that_loads_nothing_of_transformers(tmp_path):
    """Nothing of it was read: one GPU without mixed precision, whatever its Fabric is told."""
    (tmp_path / "train.py").write_text(OF_ITS_OWN.format(strategy="FSDPStrategy()"))
    argv = ("python", "train.py", "--devices", "8")
    plan = read_launch(LaunchCommand(argv, {}, str(tmp_path)), load_plugins())

    assert (plan.world_size, plan.mixed_precision, plan.micro_batch_size) == (8, "bf16", 5)
    assert plan.optimizer == "adamw_torch" and not plan.origins["optimizer"].may_be
    assert {"ddp", "fsdp2"} <= {*plan.origins["engine"].may_be}


BY_HAND = """import torch
from network import Network
from torch.nn.parallel import DistributedDataParallel
model = DistributedDataParallel(Network())
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for rows in torch.utils.data.DataLoader(read(), batch_size=6):
    model(rows).backward()
    optimizer.step()
"""


def test_a_loop_of_torch_alone_is_read(tmp_path):
    (tmp_path / "train.py").write_text(BY_HAND)
    argv = ("torchrun", "--nproc_per_node", "2", "train.py")
    plan = read_launch(LaunchCommand(argv, {}, str(tmp_path)), load_plugins())

    assert (plan.optimizer, plan.micro_batch_size) == ("sgd", 6)
    assert not plan.origins["engine"].may_be


FROM_FLAGS = """\
from argparse import ArgumentParser
from pytorch_lightning import Trainer
from network import Module, Rows
parser = Trainer.add_argparse_args(ArgumentParser())
args = parser.parse_args()
Trainer.from_argparse_args(args{more}).fit(Module(args), Rows(args))
"""


@pytest.mark.parametrize(
    ("more", "flags", "said"),
    [
        ("", "--gpus 4 --precision 16", (4, "fp16", 1)),
        ("", "--devices 2 --num_nodes 2 --accumulate_grad_batches 8", (4, "no", 8)),
        (", devices=8", "--devices 2 --precision bf16", (8, "bf16", 1)),
        (", callbacks=[log()]", "--gpus 1 --precision 32", (1, "no", 1)),
    ],
)
def test_a_trainer_that_a_parser_makes_is_told_by_flags(more, flags, said, tmp_path):
    """Its own keywords beat them, as they do in pytorch_lightning 1.9.5."""
    (tmp_path / "train.py").write_text(FROM_FLAGS.format(more=more))
    argv = ("python", "train.py", *flags.split())
    plan = read_launch(LaunchCommand(argv, {}, str(tmp_path)), load_plugins())

    assert (plan.world_size, plan.mixed_precision, plan.gradient_accumulation_steps) == said


def test_a_strategy_that_a_flag_says_leaves_the_engine_open(tmp_path):
    (tmp_path / "train.py").write_text(FROM_FLAGS.format(more=""))
    argv = ("python", "train.py", "--gpus", "4", "--strategy", "deepspeed_stage_1")
    plan = read_launch(LaunchCommand(argv, {}, str(tmp_path)), load_plugins())

    assert plan.world_size == 4 and "zero3" in plan.origins["engine"].may_be
