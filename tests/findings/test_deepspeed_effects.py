"""What DeepSpeed, accelerate and transformers do with a DeepSpeed config: in this process, and on real gloo ranks."""

from __future__ import annotations

import os
import types
from typing import Any

import pytest

MICRO = {"train_micro_batch_size_per_gpu": 1}


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what another test's launcher exported, and keep DeepSpeed on the CPU."""
    for name in list(os.environ):
        if name.startswith(("ACCELERATE_", "DS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")


def of_deepspeed(**values: Any) -> Any:
    """Return DeepSpeed's own reading of a config, for one rank."""
    from deepspeed.runtime.config import DeepSpeedConfig

    return DeepSpeedConfig({**MICRO, "zero_optimization": {"stage": 2}, **values})


def of_trainer(config: dict[str, Any], **arguments: Any) -> Any:
    """Return a config as transformers fills it from these arguments."""
    from transformers import HfArgumentParser, TrainingArguments
    from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig

    words = [word for name, value in arguments.items() for word in (f"--{name}", str(value))]
    known, _ = HfArgumentParser(TrainingArguments).parse_known_args(words)
    known.world_size = 1
    filled = HfTrainerDeepSpeedConfig(config)
    filled.trainer_config_process(known)
    return filled


def test_batch_sizes_must_multiply():
    """PF310."""
    with pytest.raises(AssertionError, match="Check batch related parameters"):
        of_deepspeed(train_batch_size=7, gradient_accumulation_steps=2)
    with pytest.raises(AssertionError, match="Check batch related parameters"):
        of_deepspeed(train_batch_size=7, train_micro_batch_size_per_gpu=2)

    right = of_deepspeed(train_batch_size=8, gradient_accumulation_steps=8)
    worked_out = of_deepspeed(train_batch_size=8, train_micro_batch_size_per_gpu=2)
    assert right.train_batch_size == 8
    assert worked_out.gradient_accumulation_steps == 4


@pytest.mark.parametrize(
    "key", ["train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps"]
)
def test_deepspeed_itself_knows_no_auto(key):
    """PF311: of a batch size; the stage's is dropped."""
    with pytest.raises(TypeError):
        of_deepspeed(**{key: "auto"})

    assert of_deepspeed(zero_optimization={"stage": "auto"}).zero_optimization_stage == 0


def test_an_auto_that_is_left_is_the_default():
    """PF308."""
    left = of_deepspeed(zero_optimization={"stage": 3, "sub_group_size": "auto"})

    assert left.zero_config.sub_group_size == of_deepspeed().zero_config.sub_group_size


def test_one_half_precision_is_enough():
    """PF312."""
    words = "bfloat16 and fp16 modes cannot be simultaneously enabled"
    with pytest.raises(AssertionError, match=words):
        of_deepspeed(fp16={"enabled": True}, bf16={"enabled": True})

    assert of_deepspeed(bf16={"enabled": True}).bfloat16_config.enabled


def test_a_part_is_offloaded_at_stage_3_only():
    """PF314."""
    offload = {"offload_optimizer": {"device": "cpu", "ratio": 0.5}}
    with pytest.raises(ValueError, match=r"Partial offloading only supported for ZeRO Stage 3\."):
        of_deepspeed(zero_optimization={"stage": 2, **offload})

    assert of_deepspeed(zero_optimization={"stage": 3, **offload}).zero_optimization_stage == 3


def test_unknown_and_removed_keys_are_refused():
    """PF309: inside zero_optimization; an unknown key at the top is ignored."""
    from deepspeed.runtime.config import DeepSpeedConfigError

    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        of_deepspeed(zero_optimization={"stage": 2, "reduce_bucket": 5})
    with pytest.raises(DeepSpeedConfigError, match="has been removed"):
        of_deepspeed(amp={"enabled": True})

    assert of_deepspeed(gradient_acumulation_steps=4).gradient_accumulation_steps == 1


def test_bf16_auto_without_the_flag_is_fp32():
    """PF306: transformers fills false, and accelerate keeps a block that is off."""
    from accelerate.utils import DeepSpeedPlugin

    config = {**MICRO, "zero_optimization": {"stage": 2}, "bf16": {"enabled": "auto"}}
    silent, told = of_trainer(dict(config, bf16={"enabled": "auto"})), of_trainer(config, bf16=True)
    plugin = DeepSpeedPlugin(hf_ds_config=silent)
    plugin.set_mixed_precision("bf16")

    assert plugin.deepspeed_config["bf16"]["enabled"] is False
    assert told.config["bf16"]["enabled"] is True


def test_a_value_that_contradicts_the_trainer_is_refused():
    """PF303: when training starts."""
    config = {"zero_optimization": {"stage": 2}, "gradient_clipping": 0.5}
    filled = of_trainer(config)
    model = types.SimpleNamespace(config=types.SimpleNamespace(hidden_size=64))
    arguments = types.SimpleNamespace(get_warmup_steps=lambda steps: 0)
    with pytest.raises(ValueError, match=r"ds gradient_clipping=0\.5 vs hf max_grad_norm=1\.0"):
        filled.trainer_config_finalize(arguments, model, 100)


def test_zero_init_stays_on_whatever_the_flag_says(monkeypatch):
    """PF304: transformers asks for the stage, and the plugin's config has it."""
    from accelerate.utils import DeepSpeedPlugin
    from transformers.integrations import is_deepspeed_zero3_enabled

    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "3")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO3_INIT", "false")
    plugin = DeepSpeedPlugin()
    plugin.set_deepspeed_weakref()  # as TrainingArguments and AcceleratorState do

    assert plugin.zero3_init_flag is False
    assert is_deepspeed_zero3_enabled()


def test_the_nvme_path_of_an_accelerate_config_never_arrives(monkeypatch):
    """PF305: the launcher exports the device, not the path."""
    from accelerate.commands.launch import launch_command_parser
    from accelerate.utils import DeepSpeedPlugin
    from accelerate.utils.launch import prepare_deepspeed_cmd_env

    flags = ["--use_deepspeed", "--zero_stage", "3", "--offload_optimizer_device", "nvme"]
    words = [
        *flags,
        "--offload_optimizer_nvme_path",
        "/elsewhere",
        "--num_machines",
        "1",
        "train.py",
    ]
    arguments = launch_command_parser().parse_args(words)
    arguments.deepspeed_fields_from_accelerate_config = []
    arguments.num_processes, arguments.mixed_precision = 2, "bf16"
    _, env = prepare_deepspeed_cmd_env(arguments)
    for name, value in env.items():
        if name.startswith("ACCELERATE_"):
            monkeypatch.setenv(name, value)
    offload = DeepSpeedPlugin().deepspeed_config["zero_optimization"]["offload_optimizer"]

    assert offload["device"] == "nvme"
    assert offload["nvme_path"] == "none"
    assert not any("/elsewhere" in value for value in env.values())


def test_zero3_refuses_a_device_map(monkeypatch):
    """PF313: whatever it says; from_pretrained asks this function first."""
    from accelerate.utils import DeepSpeedPlugin
    from transformers.integrations.accelerate import check_and_set_device_map

    words = "DeepSpeed Zero-3 is not compatible with passing a `device_map`."
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "3")
    assert check_and_set_device_map("auto") == "auto"
    plugin = DeepSpeedPlugin()
    plugin.set_deepspeed_weakref()
    for value in ("auto", {"": 0}):
        with pytest.raises(ValueError, match=words):
            check_and_set_device_map(value)


def test_an_optimizer_in_the_file_beats_the_flag():
    """PF317: what stands in for an optimizer until the engine makes the file's own."""
    from accelerate.utils import DummyOptim
    from transformers.integrations.deepspeed import deepspeed_optim_sched

    asked: list[str] = []
    trainer = types.SimpleNamespace(
        create_optimizer=lambda: asked.append("--optim"),
        create_scheduler=lambda **_: None,
    )
    config = of_trainer({**MICRO, "zero_optimization": {"stage": 2}})
    deepspeed_optim_sched(trainer, config, None, 10, [])
    assert asked == ["--optim"]
    config.config["optimizer"] = {"type": "Adam"}
    optimizer, _ = deepspeed_optim_sched(trainer, config, None, 10, [])

    assert isinstance(optimizer, DummyOptim)
    assert asked == ["--optim"]


def test_offload_takes_8_bit_adamw_for_adam(monkeypatch):
    """PF319: what accelerate asks DeepSpeedCPUAdam for; building that kernel takes minutes and changes nothing."""
    import bitsandbytes.optim as bnb
    import deepspeed.ops.adam
    import torch
    from accelerate.utils.deepspeed import map_pytorch_optim_to_deepspeed

    asked: list[bool] = []
    monkeypatch.setattr(
        deepspeed.ops.adam,
        "DeepSpeedCPUAdam",
        lambda groups, **settings: asked.append(settings["adamw_mode"]),
    )
    params = [torch.nn.Parameter(torch.zeros(4))]
    # The class and the arguments that Trainer takes for adamw_bnb_8bit, paged_adamw_8bit and paged_adamw_32bit.
    for bits, is_paged in ((8, False), (8, True), (32, True)):
        made = bnb.AdamW(params, optim_bits=bits, is_paged=is_paged, weight_decay=0.1)
        map_pytorch_optim_to_deepspeed(made)
    map_pytorch_optim_to_deepspeed(torch.optim.AdamW(params, weight_decay=0.1))

    assert asked == [False, False, True, True]


@pytest.mark.launch
def test_stage_0_accumulates_in_the_dtype_of_the_weights(effects):
    """PF318."""
    said = effects["gradient_dtype_without_zero"]
    words = "unsupported mix of model_dtype=torch.bfloat16 and grad_accum_dtype=torch.float32"

    assert said["zero0 fp32"] == f"NotImplementedError: {words}"
    assert said["zero0 bf16"] == said["zero1 fp32"] == ""


@pytest.mark.launch
def test_weights_that_are_not_gathered_are_not_saved(effects):
    """PF316."""
    found = effects["weights_saved_by_zero3"]

    assert "Cannot get 16bit model weights" in found["gathers False"]["refused"]
    assert found["gathers False"]["files"] == []
    assert "model.safetensors" in found["gathers True"]["files"]


@pytest.mark.launch
def test_a_frozen_base_is_whole_below_stage_3(effects):
    """PF404: the same bytes on every rank before and after `prepare`."""
    held = effects["frozen_base_under_zero"]

    assert held["zero1"] == held["zero2"] == held["whole"]
    assert held["zero3"] == held["whole"] // 2


@pytest.mark.launch
def test_parameters_stay_where_they_are_below_stage_3(effects):
    """PF307: offload_param asks for the host, and only stage 3 has shards to move there."""
    offloads = effects["offloaded_parameters"]

    assert offloads == {"zero2": None, "zero3": True}
