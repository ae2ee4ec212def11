"""Keys of a DeepSpeed config that change memory in ways that no formula counts are named; what is off says nothing."""

from __future__ import annotations

import json

import pytest
from deepspeed.runtime.config import DeepSpeedConfig
from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

from preflight.engines.deepspeed_keys import REMOVED_KEYS, REMOVED_ZERO_KEYS
from preflight.engines.deepspeed_left_out import LEFT_OUT
from preflight.launch import LaunchCommand
from preflight.pipeline import check_launch
from preflight.plugins import load_plugins
from preflight.request import Request
from preflight.unpriced_names import ZEROPP_WEIGHTS
from preflight.verdict import Answer

LAUNCH = (
    "accelerate launch --use_deepspeed --num_processes 8 --deepspeed_config_file ds.json -m trl.scripts.sft"
    " --model_name_or_path meta-llama/Llama-3.1-8B --dataset_name rows --output_dir out --bf16 true"
)


def named(folder, more, stage=3):
    zero = {"stage": stage, **more.pop("zero", {})}
    config = {"zero_optimization": zero, "bf16": {"enabled": True}, **more}
    (folder / "ds.json").write_text(json.dumps(config))
    (folder / "requirements.txt").write_text("deepspeed==0.15.4\n")
    command = LaunchCommand(tuple(LAUNCH.split()), {}, str(folder))
    plan = load_plugins().first("preflight_read_launch", command=command)
    return {notice.unpriced for notice in plan.notices} - {""}


@pytest.mark.parametrize(
    ("more", "stage", "name"),
    [
        ({"zero": {"mics_shard_size": 4}}, 3, "MiCS's smaller groups of ranks"),
        ({"zero": {"mics_shard_size": -1}}, 3, None),
        ({"zero": {"mics_shard_size": 4}}, 2, None),
        ({"zero": {"zero_quantized_weights": True}}, 3, ZEROPP_WEIGHTS),
        ({"zero": {"zero_quantized_weights": False}}, 3, None),
        (
            {"zero": {"stage3_module_granularity_threshold": 10**6}},
            3,
            "modules that ZeRO-3 gathers whole",
        ),
        ({"zero": {"stage3_module_granularity_threshold": 0}}, 3, None),
        ({"hybrid_engine": {"enabled": True}}, 3, "DeepSpeed's hybrid engine"),
        ({"hybrid_engine": {"enabled": False}}, 3, None),
        ({"compile": {"deepcompile": True}}, 3, "DeepCompile"),
        ({"communication_data_type": "fp32"}, 2, "gradients that are reduced in fp32"),
        ({"communication_data_type": "bf16"}, 2, None),
        ({"sequence_parallel_size": 4}, 3, "a sequence that is divided over ranks"),
        ({"optimizer": {"type": "AdamW", "params": {}}}, 2, None),
        ({"optimizer": {"type": "OneBitAdam", "params": {}}}, 2, "the states of OneBitAdam"),
        ({"optimizer": {"type": "Lion", "params": {}}}, 2, "the states of Lion"),
        ({"optimizer": {"type": "Adadelta", "params": {}}}, 2, None),
        ({"activation_checkpointing": {"partition_activations": True}}, 3, None),
    ],
)
def test_what_a_key_turns_on_is_named(tmp_path, more, stage, name):
    assert named(tmp_path, dict(more), stage) == (set() if name is None else {name})


WEIGHTS, FROZEN = {"zero_quantized_weights": True}, {"zero_quantized_nontrainable_weights": True}


@pytest.mark.parametrize(
    ("zero", "device", "answer"),
    [
        ({}, "l40s-48", Answer.FITS),
        (WEIGHTS, "h100-sxm-80", Answer.FITS),
        (FROZEN, "h100-sxm-80", Answer.FITS),
        (WEIGHTS, "l40s-48", Answer.TIGHT),  # in 8 bits and in 16 at once
        ({**WEIGHTS, "zero_quantized_gradients": True}, "h100-sxm-80", Answer.UNKNOWN),
        (WEIGHTS, "t4-16", Answer.UNKNOWN),
    ],
)
def test_weights_in_8_bits_fit_where_they_do_with_all_that_is_gathered_twice(
    tmp_path, zero, device, answer
):
    config = {"zero_optimization": {"stage": 3, **zero}, "bf16": {"enabled": True}}
    (tmp_path / "ds.json").write_text(json.dumps(config))
    (tmp_path / "requirements.txt").write_text("deepspeed==0.18.2\n")
    command = LaunchCommand(tuple(LAUNCH.split()), {}, str(tmp_path))

    assert check_launch(command, load_plugins(), Request(device)).verdict.answer is answer


def test_the_keys_are_those_that_deepspeed_reads_or_read():
    known = {f"zero_optimization.{name}" for name in (*DeepSpeedZeroConfig.model_fields, *REMOVED_ZERO_KEYS)}  # fmt: skip
    own = DeepSpeedConfig({"train_batch_size": 1}).__dict__
    for key in LEFT_OUT:
        top = key.partition(".")[0]
        assert key in known or top in REMOVED_KEYS or any(top in name for name in own), key


@pytest.mark.parametrize(
    ("params", "optimizer"),
    [
        ({"torch_adam": True}, "adamw_torch"),
        ({"torch_adam": False}, "deepspeed_fused_adam"),
        ({}, "deepspeed_fused_adam"),
    ],
)
def test_torchs_own_adam_is_read_where_a_file_asks_for_it(tmp_path, params, optimizer):
    """It makes copies while it steps that DeepSpeed's fused kernel does not (_configure_basic_optimizer)."""
    block = {"type": "AdamW", "params": params}
    config = {"zero_optimization": {"stage": 3}, "bf16": {"enabled": True}, "optimizer": block}
    (tmp_path / "ds.json").write_text(json.dumps(config))
    command = LaunchCommand(tuple(LAUNCH.split()), {}, str(tmp_path))

    assert load_plugins().first("preflight_read_launch", command=command).optimizer == optimizer


@pytest.mark.parametrize(
    ("block", "name"),
    [
        ({"type": "AdamW"}, "deepspeed_fused_adam"),
        ({"type": "Adam", "params": {"torch_adam": True}}, "adamw_torch"),
        ({"type": "Adagrad"}, "adagrad"),
        ({"type": "SGD", "params": {"momentum": 0}}, "sgd"),
        ({"type": "SGD", "params": {"momentum": 0.9}}, "torch.SGD(momentum)"),
        ({"type": "NAdam"}, "torch.NAdam"),
    ],
)
def test_a_type_that_is_none_of_deepspeeds_own_is_a_class_of_torch(tmp_path, block, name):
    config = {"zero_optimization": {"stage": 2}, "bf16": {"enabled": True}, "optimizer": block}
    (tmp_path / "ds.json").write_text(json.dumps(config))
    command = LaunchCommand(tuple(LAUNCH.split()), {}, str(tmp_path))
    plan = load_plugins().first("preflight_read_launch", command=command)

    assert plan.optimizer == name
