"""A DeepSpeed config that lies in the framework's repository is known by its name where no file is."""

from __future__ import annotations

import json

import pytest

from preflight import check
from preflight.errors import BadInput
from preflight.launch import LaunchCommand
from preflight.launchers.axolotl.cli import read_axolotl
from preflight.launchers.llamafactory.cli import read_llamafactory

LLAMA_FACTORY = """\
model_name_or_path: meta-llama/Llama-3.1-{size}
stage: sft
do_train: true
finetuning_type: full
dataset: identity
template: llama3
cutoff_len: 1024
output_dir: out
bf16: true
deepspeed: {config}
"""
AXOLOTL = """\
base_model: meta-llama/Llama-3.1-8B
datasets: [{{path: rows, type: alpaca}}]
sequence_len: 1024
micro_batch_size: 1
gradient_accumulation_steps: 1
learning_rate: 0.00001
optimizer: adamw_torch
bf16: true
deepspeed: {config}
output_dir: out
"""
RANKS = {"FORCE_TORCHRUN": "1", "NPROC_PER_NODE": "8"}


def llamafactory(folder, config, size="8B", pin=""):
    (folder / "c.yaml").write_text(LLAMA_FACTORY.format(config=config, size=size))
    (folder / "requirements.txt").write_text(pin)
    return read_llamafactory(
        LaunchCommand(("llamafactory-cli", "train", "c.yaml"), RANKS, str(folder))
    )


def axolotl(folder, config):
    (folder / "c.yaml").write_text(AXOLOTL.format(config=config))
    return read_axolotl(
        LaunchCommand(("axolotl", "train", "c.yaml", "--num-processes", "8"), {}, str(folder))
    )


@pytest.mark.parametrize(
    ("read", "config", "engine", "optimizer", "parameters"),
    [
        (llamafactory, "examples/deepspeed/ds_z0_config.json", "zero0", "none", "none"),
        (llamafactory, "examples/deepspeed/ds_z2_config.json", "zero2", "none", "none"),
        (llamafactory, "/app/examples/deepspeed/ds_z2_offload_config.json", "zero2", "cpu", "none"),
        (llamafactory, "examples/deepspeed/ds_z3_config.json", "zero3", "none", "none"),
        (llamafactory, "examples/deepspeed/ds_z3_offload_config.json", "zero3", "cpu", "cpu"),
        (llamafactory, "cache/ds_z3_offload_config.json", "zero3", "cpu", "cpu"),
        (llamafactory, "llamaboard_cache/ds_z2_config.json", "zero2", "none", "none"),
        (axolotl, "deepspeed_configs/zero1.json", "zero1", "none", "none"),
        (axolotl, "deepspeed_configs/zero2.json", "zero2", "cpu", "none"),
        (axolotl, "/workspace/axolotl/deepspeed_configs/zero3_bf16.json", "zero3", "none", "none"),
        (axolotl, "deepspeed_configs/zero3_bf16_cpuoffload_params.json", "zero3", "none", "cpu"),
    ],
)
def test_a_file_of_the_frameworks_own_is_known_by_its_name(
    read, config, engine, optimizer, parameters, tmp_path
):
    plan = read(tmp_path, config)

    assert plan.engine == engine
    assert (plan.offload_optimizer, plan.offload_params) == (optimizer, parameters)
    (said,) = [each for each in plan.notices if each.id == "PF145"]
    assert config in said.message
    assert said.where.startswith("c.yaml:")


@pytest.mark.parametrize(
    ("read", "config"),
    [
        (llamafactory, "examples/deepspeed/ds_z4_config.json"),
        (llamafactory, "deepspeed_configs/zero3.json"),
        (llamafactory, "ds_z3_config.json"),
        (axolotl, "examples/deepspeed/ds_z3_config.json"),
        (axolotl, "configs/zero3.json"),
        (axolotl, "cache/ds_z3_config.json"),
    ],
)
def test_another_name_is_a_file_that_is_missing(read, config, tmp_path):
    with pytest.raises(BadInput, match=r"does not exist|is not read"):
        read(tmp_path, config)


def test_a_file_that_is_here_is_read(tmp_path):
    own = tmp_path / "examples" / "deepspeed" / "ds_z3_config.json"
    own.parent.mkdir(parents=True)
    own.write_text(json.dumps({"zero_optimization": {"stage": 1}}))
    plan = llamafactory(tmp_path, "examples/deepspeed/ds_z3_config.json")

    assert plan.engine == "zero1"
    assert not [each for each in plan.notices if each.id == "PF145"]


@pytest.mark.parametrize(
    ("pin", "overlaps"),
    [("", True), ("llamafactory==0.9.1\n", True), ("llamafactory==0.9.3\n", False)],
)
def test_the_release_says_whether_reductions_overlap(pin, overlaps, tmp_path):
    plan = llamafactory(tmp_path, "examples/deepspeed/ds_z2_config.json", pin=pin)

    assert plan.deepspeed.overlap_comm is overlaps


def test_nothing_is_refused_for_it(tmp_path, monkeypatch):
    """70B under ZeRO-2 fits no card; another file of that name may say ZeRO-3 and offload."""
    llamafactory(tmp_path, "examples/deepspeed/ds_z2_config.json", size="70B")
    for name, value in RANKS.items():
        monkeypatch.setenv(name, value)
    report = check(["llamafactory-cli", "train", "c.yaml"], device="h100-sxm-80", cwd=str(tmp_path))

    assert report.verdict.answer.value == "unknown"
    assert "another DeepSpeed config, if the file is one" in report.text
