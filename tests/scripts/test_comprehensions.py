"""Names that a script takes out of a flag, or of a list, one by one."""

from __future__ import annotations

import pytest
from launch_of_script import opens, plan_of

SCRIPT = """\
import argparse
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

parser = argparse.ArgumentParser()
parser.add_argument("--targets", default="q_proj, v_proj")
args = parser.parse_args()
ALL = ["q_proj", "lm_head", "v_proj"]
name = "o_proj"
model = AutoModelForCausalLM.from_pretrained("huggyllama/llama-7b", torch_dtype=torch.bfloat16)
targets = {targets}
model = get_peft_model(model, LoraConfig(r=8, target_modules=targets))
Trainer(model=model, args=TrainingArguments("out", per_device_train_batch_size=8)).train()
"""
LISTED = {
    "of a flag": "[each.strip() for each in args.targets.split(',')]",
    "with a condition": "[each for each in ALL if each != 'lm_head']",
    "with two": "[each for each in ALL if each != 'lm_head' if '_proj' in each]",
    "of texts that are made": "[f'{each}_proj' for each in ('q', 'v')]",
    "of another list": "[each.lower() for each in [one.strip() for one in 'Q_PROJ,V_PROJ'.split(',')]]",
    "with a name of its own": "[name for name in ALL if name.startswith(('q', 'v'))]",
}
UNKNOWN = {
    "of what only running tells": "[each for each in ask()]",
    "of modules": "[name for name, module in model.named_modules() if 'proj' in name]",
    "of two lists": "[a + b for a in ('q', 'v') for b in ('_proj', '_proj')]",
    "a condition that only running tells": "[each for each in ALL if ask(each)]",
    "an item that only running tells": "[ask(each) for each in ALL]",
    "very many": "[str(each) for each in 'a' .split('a') * 99]",
    "of itself": "[each for each in targets]",
}


def plan(folder, targets, words=""):
    text = SCRIPT.format(targets=targets)
    return plan_of(folder, f"python train.py {words}", {"train.py": text})


@pytest.mark.parametrize("targets", LISTED.values(), ids=LISTED)
def test_names_that_are_listed_one_by_one_are_known(tmp_path, targets):
    found = plan(tmp_path, targets)

    assert found.adapter is not None
    assert tuple(found.adapter.targets) == ("q_proj", "v_proj")
    assert "adapter" not in opens(found)


def test_a_flag_says_them(tmp_path):
    found = plan(tmp_path, LISTED["of a flag"], "--targets down_proj,up_proj")

    assert tuple(found.adapter.targets) == ("down_proj", "up_proj")


@pytest.mark.parametrize("targets", UNKNOWN.values(), ids=UNKNOWN)
def test_others_stay_open(tmp_path, targets):
    assert "adapter" in opens(plan(tmp_path, targets))
