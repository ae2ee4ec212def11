"""The environment that every worker sees: the caller's, with what accelerate's launcher writes over it.

Source: prepare_multi_gpu_env, prepare_deepspeed_cmd_env and prepare_extend_env_parallelism_config of
accelerate 1.15.0 (accelerate/utils/launch.py). Values are text, as the worker reads them; each keeps
the place where the user wrote it.
"""

from __future__ import annotations

from collections.abc import Mapping

from preflight.engines.fsdp_variables import FSDP_ALWAYS, FSDP_IF_GIVEN
from preflight.launchers.accelerate.settings import LauncherSettings
from preflight.setting import Setting
from preflight.shell.launcher_part import caller_environment

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
        for name, (option, lower) in FSDP_ALWAYS.items():
            write(name, option, lower)
        for name, option in FSDP_IF_GIVEN.items():
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
