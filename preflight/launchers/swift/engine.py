"""What ms-swift hands to the engine: its own DeepSpeed and FSDP configs by name, and one process that spreads a model.

Source: _init_deepspeed and _init_fsdp in arguments/sft_args.py, get_default_device_map in model/utils.py and is_mp in
utils/env.py of ms-swift 4.6.0; llm/argument/train_args.py of 3.x has the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.errors import BadInput
from preflight.formats.load import parse_json, read_document
from preflight.launch import LaunchCommand
from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.launchers.swift.table import preset
from preflight.lazy_pattern import lazy_pattern
from preflight.setting import Setting
from preflight.shell.starters.launcher_part import LauncherPart
from preflight.shell.starters.variables import is_on, num_visible_devices

SINGLE_DEVICE = "SWIFT_SINGLE_DEVICE_MODE"
ONE_DEVICE = lazy_pattern(r"(?:cpu|(?:cuda|npu|musa|mps)(?::\d+)?)")
"""A `device_map` that spreads nothing (args.device_map or get_default_device_map, model/utils.py of 4.6.0)."""
USUAL_DEVICES = 8
"""GPUs of a usual node, where nobody counts them."""


def read_engine(keys: FrameworkKeys, part: LauncherPart, command: LaunchCommand) -> None:
    """Record what TrainingArguments get of DeepSpeed and FSDP, and the process that sees several GPUs."""
    _deepspeed(keys)
    _fsdp(keys, command)
    _spread(keys, part, command)


def _deepspeed(keys: FrameworkKeys) -> None:
    setting = keys.get("deepspeed")
    if setting is None:
        return
    config = _config_of(keys, setting)
    hpz = keys.count("zero_hpz_partition_size")
    if hpz is not None and isinstance(config, Mapping):
        stage = config.get("zero_optimization")
        if isinstance(stage, Mapping):
            zero = {**stage, "zero_hpz_partition_size": hpz.value}
            config = {**config, "zero_optimization": zero}
    keys.argument("deepspeed", config, setting)
    tensor = keys.count("deepspeed_autotp_size")
    if tensor is not None and tensor.value > 1:
        message = "DeepSpeed's AutoTP is not estimated: every rank is taken to hold all heads"
        keys.leave_out(NotModelled(message, "tensor parallelism of DeepSpeed", "less"), tensor)


def _config_of(keys: FrameworkKeys, setting: Setting) -> Any:
    """Return what a config's name, JSON text or path stands for; a path stays one."""
    value = setting.value
    if not isinstance(value, str):
        return value
    named = preset(value, keys.library.version)
    if named is not None:
        return named
    if value.lstrip().startswith("{"):
        try:
            return parse_json(value, setting.place.where)
        except BadInput:
            keys.refuse(f"{setting.place.key} is neither a file nor JSON", setting)
            return None
    return value


def _fsdp(keys: FrameworkKeys, command: LaunchCommand) -> None:
    setting = keys.get("fsdp")
    if setting is None or not setting.value:
        return
    config = _config_of(keys, setting)
    if isinstance(config, str) and config.endswith(".json"):
        config = read_document(command, config, "json", stated_at=setting.place.where).value
    if isinstance(config, Mapping):
        keys.environment["FSDP_VERSION"] = Setting(
            str(dict(config.get("fsdp_config", {})).get("fsdp_version", 2)), setting.place
        )
        keys.argument("fsdp", config.get("fsdp", "full_shard auto_wrap"), setting)
        options = {"fsdp_version": 2, **dict(config.get("fsdp_config", {}))}
        keys.argument("fsdp_config", options, setting)
        if options.get("activation_checkpointing"):
            # _check_fsdp2_compatibility turns the trainer's own off.
            keys.given["gradient_checkpointing"] = Setting(False, setting.place)
        if options.get("activation_cpu_offload"):
            message = "activations that swift's callback offloads are estimated on the GPU"
            keys.leave_out(NotModelled(message, "offloaded activations", "less"), setting)


def shards(keys: FrameworkKeys, part: LauncherPart) -> bool:
    """Tell whether DeepSpeed or FSDP trains: the model is then loaded for its rank alone."""
    engines = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
    given = keys.get("deepspeed"), keys.get("fsdp")
    return any(is_on(part.env, name) for name in engines) or any(
        one is not None and one.value for one in given
    )


def _spread(keys: FrameworkKeys, part: LauncherPart, command: LaunchCommand) -> None:
    """Say where a rank sees several GPUs: its layers are then spread over them, and no formula knows which."""
    device = keys.get("device_map")
    if command.env.get(SINGLE_DEVICE) == "1" or (
        device and ONE_DEVICE.fullmatch(str(device.value))
    ):
        return
    ranks = -(-int(part.ranks["world_size"].value) // int(part.ranks["num_nodes"].value))
    seen = num_visible_devices(command.env)
    at = part.ranks["world_size"]
    if seen and seen < 2 * ranks:
        return
    if shards(keys, part):
        if seen:
            message = f"{ranks} of {seen} GPUs have a rank: DeepSpeed and FSDP want one on each"
            keys.refuse(message, at, f"NPROC_PER_NODE={seen}")
        return
    if not seen and ranks >= USUAL_DEVICES:
        return
    what = (
        f"each of {ranks} ranks spreads the model over its share of {seen} GPUs"
        if seen
        else "a rank spreads the model over the GPUs that it sees, and nobody says how many"
    )
    message = f"{what} (device_map auto): the estimate has all of it on one"
    keys.leave_out(NotModelled(message, "layers on other GPUs", "less"), at)
