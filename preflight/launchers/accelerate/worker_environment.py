"""The environment that every worker sees: the caller's, with what accelerate's launcher writes over it.

Source: prepare_multi_gpu_env, prepare_deepspeed_cmd_env and prepare_extend_env_parallelism_config of
accelerate 1.15.0 (accelerate/utils/launch.py). Values are text, as the worker reads them; each keeps
the place where the user wrote it.
"""

from __future__ import annotations

from collections.abc import Mapping

from preflight.launchers.accelerate.settings import LauncherSettings
from preflight.setting import Setting
from preflight.shell.starters.launcher_part import caller_environment
from preflight.shell.starters.plugin_variables import (
    DEEPSPEED_IF_GIVEN,
    FSDP_ALWAYS,
    FSDP_IF_GIVEN,
    fsdp_variable,
)

_PARALLELISM = (
    "dp_replicate_size", "dp_shard_size", "tp_size", "cp_size", "cp_backend", "sp_size", "sp_backend",
)  # fmt: skip


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
        for option, lower in FSDP_ALWAYS.items():
            write(fsdp_variable(option), option, lower)
        for option in FSDP_IF_GIVEN:
            if settings.value(option) is not None:
                write(fsdp_variable(option), option)
    if settings.mode == "deepspeed":
        env["ACCELERATE_USE_DEEPSPEED"] = Setting("true", settings.mode_place)
        for name, option in DEEPSPEED_IF_GIVEN.items():
            if settings.value(option) is not None:
                write(name, option, lower=option != "deepspeed_config_file")
    if settings.mode in ("fsdp", "deepspeed", "multi_gpu", "megatron") and (
        settings.uses_parallelism_config
    ):
        env["ACCELERATE_USE_PARALLELISM_CONFIG"] = Setting("true", settings.mode_place)
        for name in _PARALLELISM:
            option = f"parallelism_config_{name}"
            write(option.upper(), option)
    return env
