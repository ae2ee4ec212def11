"""A DeepSpeed config that its framework publishes is known where its folder is not here; another one leaves all open."""

from __future__ import annotations

import pytest

import preflight
from preflight.engines.published_configs import PUBLISHED, published_config

LLAMA_FACTORY = """\
model_name_or_path: meta-llama/Llama-3.1-8B
stage: sft
do_train: true
finetuning_type: full
dataset: mine
template: llama3
cutoff_len: 2048
output_dir: out
bf16: true
per_device_train_batch_size: 1
deepspeed: {}
"""
AXOLOTL = """\
base_model: meta-llama/Llama-3.1-8B
datasets: [{{path: rows.jsonl, type: alpaca}}]
learning_rate: 1e-5
micro_batch_size: 1
gradient_accumulation_steps: 1
sequence_len: 2048
bf16: true
gradient_checkpointing: true
deepspeed: {}
"""
EIGHT = {"FORCE_TORCHRUN": "1", "NPROC_PER_NODE": "8"}


def plan_of(folder, framework: str, path: str):
    text, words = {
        "llamafactory": (LLAMA_FACTORY, "llamafactory-cli train train.yaml"),
        "axolotl": (AXOLOTL, "axolotl train train.yaml --num-processes 8"),
    }[framework]
    (folder / "train.yaml").write_text(text.format(path))
    return preflight.check(words.split(), device="h100", cwd=str(folder), env=EIGHT)


@pytest.mark.parametrize(
    ("framework", "path", "engine", "states", "weights"),
    [
        ("llamafactory", "examples/deepspeed/ds_z2_config.json", "zero2", "none", "none"),
        ("llamafactory", "examples/deepspeed/ds_z2_offload_config.json", "zero2", "cpu", "none"),
        ("llamafactory", "examples/deepspeed/ds_z3_config.json", "zero3", "none", "none"),
        ("llamafactory", "examples/deepspeed/ds_z3_offload_config.json", "zero3", "cpu", "cpu"),
        ("axolotl", "deepspeed_configs/zero3_bf16.json", "zero3", "none", "none"),
        ("axolotl", "/no-such-root/deepspeed_configs/zero3.json", "zero3", "none", "none"),
        ("axolotl", "deepspeed_configs/zero3_bf16_cpuoffload_all.json", "zero3", "cpu", "cpu"),
    ],
)
def test_it_is_what_its_framework_publishes(tmp_path, framework, path, engine, states, weights):
    report = plan_of(tmp_path, framework, path)
    plan = report.plan

    assert (plan.engine, plan.offload_optimizer, plan.offload_params) == (engine, states, weights)
    assert report.verdict.answer.value != "unknown"
    assert any(path in said.message and "publishes" in said.message for said in report.findings)


def test_a_file_that_is_here_says_what_it_says(tmp_path):
    (tmp_path / "deepspeed_configs").mkdir()
    (tmp_path / "deepspeed_configs/zero3.json").write_text('{"zero_optimization": {"stage": 1}}')

    assert plan_of(tmp_path, "axolotl", "deepspeed_configs/zero3.json").plan.engine == "zero1"


@pytest.mark.parametrize("path", ["deepspeed_configs/zero2.json", "examples/ds_z3_config.json"])
def test_another_one_leaves_all_open(tmp_path, path):
    verdict = plan_of(tmp_path, "axolotl", path).verdict

    assert verdict.unpriced == ("a config file that is not here",)


def test_every_path_is_found_behind_any_folder():
    for ends in PUBLISHED:
        assert published_config("/".join(("", "workspace", *ends))) == PUBLISHED[ends]
