"""The environment that every worker sees: the caller's, with what accelerate's launcher writes over it.

Source: prepare_multi_gpu_env, prepare_deepspeed_cmd_env and prepare_extend_env_parallelism_config of
accelerate 1.15.0 (accelerate/utils/launch.py). Values are text, as the worker reads them; each keeps
the place where the user wrote it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.formats.places import Setting
from preflight.launchers.accelerate.launcher import LauncherSettings
from preflight.shell.launcher_part import caller_environment

_FSDP_ALWAYS = {
    # variable -> (option, lower-cased)
    "FSDP_VERSION": ("fsdp_version", False),
    "FSDP_SHARDING_STRATEGY": ("fsdp_sharding_strategy", False),
    "FSDP_RESHARD_AFTER_FORWARD": ("fsdp_reshard_after_forward", True),
    "FSDP_OFFLOAD_PARAMS": ("fsdp_offload_params", True),
    "FSDP_MIN_NUM_PARAMS": ("fsdp_min_num_params", False),
    "FSDP_FORWARD_PREFETCH": ("fsdp_forward_prefetch", True),
    "FSDP_USE_ORIG_PARAMS": ("fsdp_use_orig_params", True),
    "FSDP_CPU_RAM_EFFICIENT_LOADING": ("fsdp_cpu_ram_efficient_loading", True),
    "FSDP_SYNC_MODULE_STATES": ("fsdp_sync_module_states", True),
    "FSDP_ACTIVATION_CHECKPOINTING": ("fsdp_activation_checkpointing", True),
    "FSDP_ACTIVATION_CHECKPOINTING_OFFLOAD": ("fsdp_activation_checkpointing_offload", True),
}
_FSDP_IF_GIVEN = {
    "FSDP_AUTO_WRAP_POLICY": "fsdp_auto_wrap_policy",
    "FSDP_TRANSFORMER_CLS_TO_WRAP": "fsdp_transformer_layer_cls_to_wrap",
    "FSDP_BACKWARD_PREFETCH": "fsdp_backward_prefetch",
    "FSDP_STATE_DICT_TYPE": "fsdp_state_dict_type",
    "FSDP_IGNORED_MODULES": "fsdp_ignored_modules",
}
FSDP_VARIABLES = {
    **{option: variable for variable, (option, _) in _FSDP_ALWAYS.items()},
    **{option: variable for variable, option in _FSDP_IF_GIVEN.items()},
}
"""Option of accelerate's launcher -> the variable that it writes."""
_DEEPSPEED_IF_GIVEN = {
    "ACCELERATE_DEEPSPEED_ZERO_STAGE": "zero_stage",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "gradient_accumulation_steps",
    "ACCELERATE_GRADIENT_CLIPPING": "gradient_clipping",
    "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "offload_optimizer_device",
    "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "offload_param_device",
    "ACCELERATE_DEEPSPEED_ZERO3_INIT": "zero3_init_flag",
    "ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL": "zero3_save_16bit_model",
    "ACCELERATE_DEEPSPEED_CONFIG_FILE": "deepspeed_config_file",
}
_PARALLELISM = {
    "PARALLELISM_CONFIG_DP_REPLICATE_SIZE": "parallelism_config_dp_replicate_size",
    "PARALLELISM_CONFIG_DP_SHARD_SIZE": "parallelism_config_dp_shard_size",
    "PARALLELISM_CONFIG_TP_SIZE": "parallelism_config_tp_size",
    "PARALLELISM_CONFIG_CP_SIZE": "parallelism_config_cp_size",
    "PARALLELISM_CONFIG_CP_BACKEND": "parallelism_config_cp_backend",
    "PARALLELISM_CONFIG_SP_SIZE": "parallelism_config_sp_size",
    "PARALLELISM_CONFIG_SP_BACKEND": "parallelism_config_sp_backend",
}


def worker_environment(settings: LauncherSettings, caller: Mapping[str, str]) -> dict[str, Setting]:
    """Return variable -> text and its place, for the variables that accelerate and transformers read."""
    env = caller_environment(caller)

    def write(name: str, option: str, lower: bool = False) -> None:
        text = str(settings.value(option))
        env[name] = Setting(text.lower() if lower else text, settings.place(option))

    write("ACCELERATE_MIXED_PRECISION", "mixed_precision", lower=True)
    if settings.mode != "deepspeed":  # that launcher leaves torch.compile out
        backend = str(settings.value("dynamo_backend")).upper()
        env["ACCELERATE_DYNAMO_BACKEND"] = Setting(backend, settings.place("dynamo_backend"))
    if settings.mode == "fsdp":
        env["ACCELERATE_USE_FSDP"] = Setting("true", settings.mode_place)
        for name, (option, lower) in _FSDP_ALWAYS.items():
            write(name, option, lower)
        for name, option in _FSDP_IF_GIVEN.items():
            if settings.value(option) is not None:
                write(name, option)
    if settings.mode == "deepspeed":
        env["ACCELERATE_USE_DEEPSPEED"] = Setting("true", settings.mode_place)
        for name, option in _DEEPSPEED_IF_GIVEN.items():
            if settings.value(option) is not None:
                write(name, option, lower=option != "deepspeed_config_file")
    if settings.mode in ("fsdp", "deepspeed", "multi_gpu", "megatron") and (
        settings.uses_parallelism_config
    ):
        env["ACCELERATE_USE_PARALLELISM_CONFIG"] = Setting("true", settings.mode_place)
        for name, option in _PARALLELISM.items():
            write(name, option)
    return env


def is_on(env: Mapping[str, Setting], name: str) -> bool:
    """Tell whether an ACCELERATE_USE_* variable switches its mode on: accelerate takes the word `true` only."""
    return name in env and str(env[name].value).lower() == "true"


def text(env: Mapping[str, Setting], name: str, default: Any = None) -> Any:
    """Return a variable's text, or the default."""
    return env[name].value if name in env else default
