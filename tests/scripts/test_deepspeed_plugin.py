"""DeepSpeedPlugin of accelerate in a script: what it says of the engine, and what leaves the engine open."""

from __future__ import annotations

import json

import pytest
from launch_of_script import opens, plan_of

from preflight.shell.starters.variables import deepspeed_variable

LOOP = """\
import argparse
import torch
from accelerate import Accelerator, DeepSpeedPlugin
from transformers import AutoModelForCausalLM

parser = argparse.ArgumentParser()
parser.add_argument("--offload", action="store_true")
args = parser.parse_args()
{plugin}
model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-7b-hf", torch_dtype=torch.bfloat16)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
model, optimizer = accelerator.prepare(model, optimizer)
for batch in []:
    accelerator.backward(model(**batch).loss)
"""
MADE = "\naccelerator = Accelerator(mixed_precision='bf16', deepspeed_plugin=plugin)"
LAUNCH = "accelerate launch --num_processes 8 loop.py"
IN_BRANCHES = (
    "given = dict(mixed_precision='bf16')\nif args.offload:\n"
    "    given['deepspeed_plugin'] = DeepSpeedPlugin(zero_stage=3, offload_param_device='cpu')\nelse:\n"
    "    given['deepspeed_plugin'] = DeepSpeedPlugin(zero_stage=1)\naccelerator = Accelerator(**given)"
)


def planned(tmp_path, plugin: str, words: str = ""):
    return plan_of(tmp_path, LAUNCH + words, {"loop.py": LOOP.replace("{plugin}", plugin)})


@pytest.mark.parametrize(
    ("plugin", "words", "engine", "offloads"),
    [
        ("plugin = DeepSpeedPlugin()" + MADE, "", "zero2", ("none", "none")),
        ("plugin = DeepSpeedPlugin(zero_stage=3)" + MADE, "", "zero3", ("none", "none")),
        ("plugin = DeepSpeedPlugin(zero_stage=1, offload_optimizer_device='cpu')" + MADE, "", "zero1", ("cpu", "none")),
        ("plugin = DeepSpeedPlugin(hf_ds_config='zero.json')" + MADE, "", "zero3", ("none", "cpu")),
        ("config = {'zero_optimization': {'stage': 3}, 'bf16': {'enabled': True}}\nconfig['zero_optimization']['stage'] = 1\nplugin = DeepSpeedPlugin(hf_ds_config=config)" + MADE, "", "zero1", ("none", "none")),
        (IN_BRANCHES, "", "zero1", ("none", "none")),
        (IN_BRANCHES, " --offload", "zero3", ("none", "cpu")),
    ],
)  # fmt: skip
def test_a_plugin_says_what_accelerate_is_told(plugin, words, engine, offloads, tmp_path):
    zero = {"stage": 3, "offload_param": {"device": "cpu"}}
    (tmp_path / "zero.json").write_text(json.dumps({"zero_optimization": zero}))
    plan = planned(tmp_path, plugin, words)

    assert (plan.engine, plan.mixed_precision) == (engine, "bf16")
    assert (plan.offload_optimizer, plan.offload_params) == offloads
    assert "engine" not in opens(plan)


@pytest.mark.parametrize(
    "plugin",
    [
        "plugin = DeepSpeedPlugin(zero_stage=3)\nplugin.zero_stage = 1" + MADE,
        "plugin = DeepSpeedPlugin(**made_elsewhere())" + MADE,
        "plugin = DeepSpeedPlugin(hf_ds_config=made_elsewhere())" + MADE,
        "plugin = DeepSpeedPlugin(zero_stage=3)\nother = DeepSpeedPlugin(zero_stage=1)" + MADE,
        "config = {'zero_optimization': {'stage': made_elsewhere()}}\nplugin = DeepSpeedPlugin(hf_ds_config=config)"
        + MADE,
    ],
)
def test_a_plugin_that_is_not_read_whole_leaves_the_engine_open(plugin, tmp_path):
    assert "engine" in opens(planned(tmp_path, plugin))


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("zero_stage", 3),
        ("gradient_accumulation_steps", 4),
        ("gradient_clipping", 1.0),
        ("offload_optimizer_device", "cpu"),
        ("offload_param_device", "cpu"),
        ("zero3_save_16bit_model", True),
        ("hf_ds_config", "zero.json"),
    ],
)
def test_a_keyword_of_the_plugin_is_what_its_variable_is(keyword, value, tmp_path, monkeypatch):
    accelerate = pytest.importorskip("accelerate")
    pytest.importorskip("deepspeed")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zero.json").write_text(json.dumps({"zero_optimization": {"stage": 1}}))
    stage = {} if keyword in ("zero_stage", "hf_ds_config") else {"zero_stage": 3}
    said = accelerate.DeepSpeedPlugin(**stage, **{keyword: value}).deepspeed_config

    monkeypatch.setenv(str(deepspeed_variable(keyword)), str(value).lower())
    assert accelerate.DeepSpeedPlugin(**stage).deepspeed_config == said


@pytest.mark.parametrize(
    ("switches", "devices"),
    [
        ({"cpu_offload": True}, ("cpu", "none")),
        ({"cpu_offload": True, "cpu_offload_param": True}, ("cpu", "cpu")),
        ({"cpu_offload": False}, ("none", "none")),
    ],
)
def test_the_switches_of_before_mean_the_host(tmp_path, switches, devices):
    config = {
        "train_micro_batch_size_per_gpu": 1,
        "bf16": {"enabled": True},
        "zero_optimization": {"stage": 3, **switches},
    }
    files = {"t.py": "Trainer(m, args).train()\n", "zero.json": json.dumps(config)}
    command = (
        "accelerate launch --num_processes 2 --use_deepspeed --deepspeed_config_file zero.json t.py"
    )
    plan = plan_of(tmp_path, command, files)

    assert (plan.offload_optimizer, plan.offload_params) == devices
