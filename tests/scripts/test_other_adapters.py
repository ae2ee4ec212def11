"""Scripts whose adapter is no LoRA: of a kind that is known it is the plan's, and any other is named."""

from __future__ import annotations

import pytest
from launch_of_script import plan_of

from preflight.unpriced_names import NOT_LORA, OWN_PEFT

SCRIPT = """\
import torch
import peft
from peft import get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

def main(size=64):
    model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-7b-hf", torch_dtype=torch.bfloat16)
    model = get_peft_model(model, {config})
    training = TrainingArguments(output_dir="out", per_device_train_batch_size=2, bf16=True)
    Trainer(model=model, args=training).train()

main()
"""
LAUNCH = "torchrun --nproc_per_node 8 train.py"


def read(tmp_path, config):
    return plan_of(tmp_path, LAUNCH, {"train.py": SCRIPT.format(config=config)})


@pytest.mark.parametrize(
    ("config", "kind", "size", "targets"),
    [
        ("peft.OFTConfig(oft_block_size=size, target_modules=['q_proj', 'v_proj'])", "oft", 64, ("q_proj", "v_proj")),
        ("peft.OFTConfig(task_type='CAUSAL_LM', target_modules='all-linear')", "oft", 32, "all-linear"),
        ("peft.AdaLoraConfig(init_r=16, tinit=200, total_step=900, lora_dropout=0.1)", "adalora", 16, None),
        ("peft.IA3Config(feedforward_modules=['down_proj'], target_modules=['k_proj', 'down_proj'])", "ia3", 8, ("k_proj", "down_proj")),
        ("peft.ShiraConfig(r=4, mask_type='random', target_modules=['q_proj', 'v_proj'])", "shira", 4, ("q_proj", "v_proj")),
    ],
)  # fmt: skip
def test_an_adapter_of_a_known_kind_is_the_plans(tmp_path, config, kind, size, targets):
    plan = read(tmp_path, config)

    assert plan.adapter is not None
    assert (plan.adapter.kind, plan.adapter.rank, plan.adapter.targets) == (kind, size, targets)
    assert NOT_LORA not in {notice.unpriced for notice in plan.notices}


@pytest.mark.parametrize(
    "config",
    [
        "peft.OFTConfig(oft_block_size=size, coft=True)",
        "peft.ShiraConfig(r=4, mask_type=chosen())",
        "peft.MissConfig(init_weights='bat')",
        "peft.IA3Config(feedforward_modules=['o_proj'], target_modules=['o_proj'])",
        "peft.OFTConfig(**chosen())",
        "peft.OFTConfig() if chosen() else peft.IA3Config()",
        "peft.PromptTuningConfig(num_virtual_tokens=20)",
    ],
)
def test_one_that_only_running_tells_is_named(tmp_path, config):
    assert NOT_LORA in {notice.unpriced for notice in read(tmp_path, config).notices}


OWN = """\
from dataclasses import dataclass
import torch

@dataclass
class LoraConfig:
    r: int = 8
    target_modules: list = None

@dataclass
class TwinConfig(LoraConfig):
    twins: int = 2

class Beside(torch.nn.Module):
    def __init__(self, layer, config):
        super().__init__()
        self.layer, self.down = layer, torch.nn.Linear(layer.in_features, config.r)
        self.up = torch.nn.Linear(config.r, layer.out_features)

    def forward(self, rows):
        return self.layer(rows) + self.up(self.down(rows)) + self.layer(2 * rows)

def get_peft_model(model, config):
    for name in config.target_modules:
        for layer in model.model.layers:
            setattr(layer.self_attn, name, Beside(getattr(layer.self_attn, name), config))
    return model
"""
HANDS_ON = "import peft\n\ndef get_peft_model(model, config):\n    model.train()\n    return peft.get_peft_model(model, config)\n"
CHOSEN = """\
import argparse
import torch
from {place} import {names}
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

parser = argparse.ArgumentParser()
parser.add_argument("--lora_r", type=int, default=8)
parser.add_argument("--kind", default="lora")
args = parser.parse_args()
model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-7b-hf", torch_dtype=torch.bfloat16)
if args.kind == "lora":
    config = LoraConfig(r=args.lora_r, target_modules=["q_proj", "v_proj"])
else:
    config = TwinConfig(r=args.lora_r, target_modules=["q_proj", "v_proj"])
model = get_peft_model(model, config)
training = TrainingArguments(output_dir="out", per_device_train_batch_size=2, bf16=True)
Trainer(model=model, args=training).train()
"""
ALL = "LoraConfig, TwinConfig, get_peft_model"
OF_BOTH = "LoraConfig, get_peft_model\nfrom own import TwinConfig"


@pytest.mark.parametrize(
    ("place", "names", "files", "words", "named"),
    [
        ("own", ALL, {"own.py": OWN}, "", {NOT_LORA}),
        ("own", ALL, {"own.py": OWN}, "--kind twin", {NOT_LORA}),
        ("peft", OF_BOTH, {"own.py": OWN}, "", set()),
        ("peft", OF_BOTH, {"own.py": OWN}, "--kind twin --lora_r 4", {NOT_LORA}),
        ("peft", ALL, {}, "", set()),
        ("peft", ALL, {}, "--kind twin --lora_r 4", {NOT_LORA}),
        ("peft", "LoraConfig\nfrom own import get_peft_model", {"own.py": HANDS_ON}, "", set()),
        ("peft", ALL, {"peft/__init__.py": OWN}, "", {OWN_PEFT}),
    ],
)
def test_an_adapter_that_is_not_pefts_is_named(tmp_path, place, names, files, words, named):
    files = {**files, "train.py": CHOSEN.format(place=place, names=names)}
    plan = plan_of(tmp_path, f"torchrun --nproc_per_node 8 train.py {words}", files)

    assert named == {NOT_LORA, OWN_PEFT} & {notice.unpriced for notice in plan.notices}


@pytest.mark.parametrize(("has_setup", "is_named"), [(True, False), (False, True)])
def test_a_checkout_of_peft_is_no_copy_of_it(tmp_path, has_setup, is_named):
    script = CHOSEN.format(place="peft", names="LoraConfig, get_peft_model")
    files = {"src/peft/__init__.py": OWN, "examples/train.py": script}
    plan = plan_of(
        tmp_path,
        "torchrun --nproc_per_node 8 examples/train.py",
        {**files, "setup.py": ""} if has_setup else files,
    )

    assert (OWN_PEFT in {notice.unpriced for notice in plan.notices}) is is_named
