"""Files of one repository that call functions alike: a bare name is the file's own function, and a method is none of a file."""

from __future__ import annotations

import pytest
from launch_of_script import opens, plan_of

HELPER = """\
from dataclasses import dataclass
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

def saved(model):
    return {k: v for k, v in model.named_parameters()}

def train():
    model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-13b-hf")
    model = get_peft_model(model, LoraConfig(r=64))
    Trainer(model=model, args=TrainingArguments(output_dir="out", bf16=True)).train()
"""
SCRIPT = """\
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
from peft import LoraConfig, get_peft_model
{imported}

def train():
    model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-7b-hf")
    model = get_peft_model(model, LoraConfig(r=8))
    trainer = Trainer(model=model, args=TrainingArguments(output_dir="out", per_device_train_batch_size=2, bf16=True))
    saved(model)
    print(len(list(model.modules())))
    trainer.{called}

def run(module):
    module.train()

if __name__ == "__main__":
    train()
"""
LAUNCH = "torchrun --nproc_per_node 8 train.py"


def read(tmp_path, imported, called):
    files = {"train.py": SCRIPT.format(imported=imported, called=called), "helper.py": HELPER}
    return plan_of(tmp_path, LAUNCH, files)


@pytest.mark.parametrize("called", ["fit()", "train()"])
@pytest.mark.parametrize(
    "imported", ["from helper import saved", "import helper; from helper import saved"]
)
def test_a_function_of_the_same_name_in_a_helpers_file_does_not_run(tmp_path, imported, called):
    plan = read(tmp_path, imported, called)

    assert plan.model == "meta-llama/Llama-2-7b-hf"
    assert plan.adapter is not None
    assert plan.adapter.rank == 8
    assert "adapter" not in opens(plan)


@pytest.mark.parametrize(
    ("imported", "called"),
    [
        ("from helper import saved, train as other", "fit(); other()"),
        ("import helper; saved = print", "fit(); helper.train()"),
        ("import helper; saved = print", "fit(); held = helper; held.train()"),
        ("import helper; saved = print", "fit(); run(helper)"),
        (
            "import importlib, helper; saved = print",
            "fit(); importlib.import_module('helper').train()",
        ),
        ("import sys, helper; saved = print", "fit(); sys.modules['helper'].train()"),
    ],
)
def test_one_that_is_named_otherwise_may_run(tmp_path, imported, called):
    """By the name that an import gives it, or as the attribute of what may be its file."""
    assert "adapter" in opens(read(tmp_path, imported, called))
