"""An adapter of layers that a script puts in place of linear ones, as DeepSpeed-Chat's scripts do, is read with its rank."""

from __future__ import annotations

import pytest
from launch_of_script import opens, plan_of

SCRIPT = """\
import argparse
import deepspeed
from transformers import AutoModelForCausalLM
from lora import convert_linear_layer_to_lora, only_optimize_lora_parameters

parser = argparse.ArgumentParser()
parser.add_argument("--model", default="facebook/opt-1.3b")
parser.add_argument("--lora_dim", type=int, default=0)
parser.add_argument("--lora_module_name", default="decoder.layers.")
parser.add_argument("--only_optimize_lora", action="store_true")
args = parser.parse_args()
model = AutoModelForCausalLM.from_pretrained(args.model)
if args.lora_dim > 0:
    model = convert_linear_layer_to_lora(model, args.lora_module_name, args.lora_dim)
    if args.only_optimize_lora:
        model = only_optimize_lora_parameters(model)
config = {"train_micro_batch_size_per_gpu": 4, "fp16": {"enabled": True}, "zero_optimization": {"stage": 2}}
engine, *_ = deepspeed.initialize(model=model, config=config)
for batch in loader:
    engine.backward(engine(**batch).loss)
    engine.step()
"""
LORA = """\
from torch import nn

class LoraLayer(nn.Module):
    def __init__(self, weight, rank):
        super().__init__()
        self.weight = weight
        self.right = nn.Parameter(weight.new_zeros(weight.shape[1], rank))
        self.left = nn.Parameter(weight.new_zeros(rank, weight.shape[0]))
        self.weight.requires_grad = False

def convert_linear_layer_to_lora(model, part_module_name, lora_dim=0, lora_scaling=1, lora_droppout=0):
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and part_module_name in name:
            replace(model, name, LoraLayer(module.weight, lora_dim))
    return model

def only_optimize_lora_parameters(model, force_optimize_params=[]):
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.endswith(("left", "right")) or name in force_optimize_params
    return model
"""


@pytest.fixture
def plan(tmp_path):
    def made(flags: str, script: str = SCRIPT):
        files = {"train.py": script, "lora.py": LORA}
        return plan_of(tmp_path, f"deepspeed --num_gpus 4 train.py {flags}", files)

    return made


def test_the_adapter_has_the_rank_of_the_call_on_every_layer(plan):
    read = plan("--lora_dim 64 --only_optimize_lora")

    assert read.adapter is not None and "adapter" not in opens(read)
    assert (read.adapter.rank, read.adapter.targets) == (64, "all-linear")


def test_what_is_not_frozen_by_it_may_train_beside_it(plan):
    read = plan("--lora_dim 64")

    assert read.adapter is not None and read.adapter.rank == 64
    (dearest,) = read.origins["adapter"].may_be
    assert "embed_tokens" in dearest.modules_to_save and "lm_head" in dearest.modules_to_save


FORCED = SCRIPT.replace("_parameters(model)", "_parameters(model, [head])")


def test_what_trains_beside_it_by_name_may_be_anything(plan):
    assert FORCED != SCRIPT
    assert "adapter" in opens(plan("--lora_dim 64 --only_optimize_lora", FORCED))


@pytest.mark.parametrize(
    ("flags", "is_made"),
    [
        ("", False),
        ("--lora_dim 64 --lora_module_name q_proj", True),
        ("--lora_dim 64 --lora_module_name decoder.layers.", False),
    ],
)
def test_an_adapter_on_some_layers_is_named_and_none_without_a_rank(plan, flags, is_made):
    read = plan(flags)

    assert (read.adapter is None) is (is_made or not flags)
    assert "adapter" in opens(read)
    name = "what convert_linear_layer_to_lora makes of the model"
    assert (name in {notice.unpriced for notice in read.notices}) is is_made
