"""Variables of an environment, each with the place where it was written: of accelerate and its plugins, of the GPUs seen.

Those of plugins are how accelerate hands options of FSDP and DeepSpeed to its workers, whose plugins take their defaults from
them (accelerate/utils/launch.py and dataclasses.py, 1.15.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.bool_words import is_true
from preflight.setting import Setting

PARALLELISM_SIZES = {
    f"PARALLELISM_CONFIG_{name.upper()}": name
    for name in ("dp_replicate_size", "dp_shard_size", "tp_size", "cp_size", "sp_size")
}
"""Variable -> the size of ParallelismConfig that it stands for (accelerate/parallelism_config.py, 1.15)."""


def is_on(env: Mapping[str, Setting], name: str) -> bool:
    """Tell whether an ACCELERATE_USE_* variable switches its mode on: accelerate takes the word `true` only."""
    return name in env and is_true(env[name].value)


def text(env: Mapping[str, Setting], name: str, default: Any = None) -> Any:
    """Return a variable's text, or the default."""
    return env[name].value if name in env else default


def numbered(count: int) -> str:
    """Return so many devices as CUDA_VISIBLE_DEVICES lists them: `0,1,2`."""
    return ",".join(map(str, range(count)))


def num_visible_devices(env: Mapping[str, str]) -> int:
    """Return how many NVIDIA GPUs a launcher here would count: CUDA_VISIBLE_DEVICES, else the driver's device files."""
    import os

    listed = env.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        ids = [word.strip() for word in listed.split(",")]
        # CUDA stops at the first id that it does not know.
        return next((index for index, word in enumerate(ids) if word in ("", "-1")), len(ids))
    try:
        return sum(
            name.startswith("nvidia") and name[6:].isdecimal() for name in os.listdir("/dev")
        )
    except OSError:
        return 0


FSDP_ALWAYS = {
    # option of the launcher -> whether its value is written in lower case
    "fsdp_version": False,
    "fsdp_sharding_strategy": False,
    "fsdp_reshard_after_forward": True,
    "fsdp_offload_params": True,
    "fsdp_min_num_params": False,
    "fsdp_forward_prefetch": True,
    "fsdp_use_orig_params": True,
    "fsdp_cpu_ram_efficient_loading": True,
    "fsdp_sync_module_states": True,
    "fsdp_activation_checkpointing": True,
    "fsdp_activation_checkpointing_offload": True,
}
FSDP_IF_GIVEN = (
    "fsdp_auto_wrap_policy",
    "fsdp_transformer_layer_cls_to_wrap",
    "fsdp_backward_prefetch",
    "fsdp_state_dict_type",
    "fsdp_ignored_modules",
)
_OTHER_WORDS = {
    "cpu_offload": "offload_params",
    "transformer_layer_cls": "transformer_cls_to_wrap",
    "transformer_layer_cls_to_wrap": "transformer_cls_to_wrap",
    "transformer_cls_names_to_wrap": "transformer_cls_to_wrap",
}
"""What the plugin, the launcher or a framework calls an option whose variable has another name."""


def fsdp_variable(option: str) -> str:
    """Return the variable of an option, by the launcher's name, by that of a keyword of the plugin, or without `fsdp_`."""
    name = option.removeprefix("fsdp_")
    return f"FSDP_{_OTHER_WORDS.get(name, name).upper()}"


DEEPSPEED_IF_GIVEN = {
    "ACCELERATE_DEEPSPEED_ZERO_STAGE": "zero_stage",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "gradient_accumulation_steps",
    "ACCELERATE_GRADIENT_CLIPPING": "gradient_clipping",
    "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "offload_optimizer_device",
    "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "offload_param_device",
    "ACCELERATE_DEEPSPEED_ZERO3_INIT": "zero3_init_flag",
    "ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL": "zero3_save_16bit_model",
    "ACCELERATE_DEEPSPEED_CONFIG_FILE": "deepspeed_config_file",
}
"""Variable -> option of the launcher."""
_OF_PLUGIN = {"hf_ds_config": "deepspeed_config_file"}
"""Keyword of DeepSpeedPlugin that has another name than the launcher's option."""


def deepspeed_variable(keyword: str) -> str | None:
    """Return the variable that a keyword of DeepSpeedPlugin stands for; None where there is none."""
    option = _OF_PLUGIN.get(keyword, keyword)
    return next((name for name, known in DEEPSPEED_IF_GIVEN.items() if known == option), None)
