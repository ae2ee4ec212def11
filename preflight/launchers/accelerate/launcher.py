"""What `accelerate launch` decides before it starts anything: options, config file and mode, with its own refusals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from preflight.errors import Problem
from preflight.launch import LaunchCommand
from preflight.launchers.accelerate import keys as keys
from preflight.launchers.accelerate.argv import BY_KEY
from preflight.launchers.accelerate.checks import check_config_values, check_flags, check_settings
from preflight.launchers.accelerate.config import AccelerateConfig, filled_from_config, find_config
from preflight.launchers.accelerate.settings import MODE_FLAGS, LauncherSettings
from preflight.reading import Problems, Reading
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_options import ParsedOptions
from preflight.shell.starters.variables import num_visible_devices


def read_launcher_settings(
    arguments: ParsedOptions, command: LaunchCommand
) -> Reading[LauncherSettings]:
    """Merge command line, config file and defaults as accelerate does; problems come in file order."""
    given = arguments.given
    default = Place("default", "", "accelerate")
    values = {key: Setting(option.default, default) for key, option in BY_KEY.items()}
    values.update(given)
    problems = Problems(check_flags(given))
    config = problems.take(find_config(given, command))
    modes = {flag: bool(values[flag].value) for flag in (*MODE_FLAGS, "cpu")}
    mode_places = {flag: values[flag].place for flag in modes}
    uses_parallelism = bool(values["use_parallelism_config"].value)
    precision_from_config = False
    num_devices: int | None = None
    if config is not None:
        kind = config.values.get("distributed_type")
        if any(modes[flag] for flag in MODE_FLAGS):
            problems.extend(_note_dropped_mode(kind, modes, mode_places, config))
        else:
            modes["use_deepspeed"] = kind == "DEEPSPEED"
            modes["multi_gpu"] = kind in keys.MULTI_DEVICE_TYPES
            modes["tpu"] = kind == "XLA"
            modes["use_fsdp"] = kind == "FSDP"
            modes["use_megatron_lm"] = kind == "MEGATRON_LM"
            mode_places = dict.fromkeys(mode_places, config.place("distributed_type"))
            uses_parallelism = config.values.get("parallelism_config") not in (None, {})
        values = problems.take(filled_from_config(values, given, config))
        precision = values["mixed_precision"]
        if not precision.value:
            values["mixed_precision"] = _precision_of(config)
            precision_from_config = config.values.get("mixed_precision") is not None
        if values["gpu_ids"].value is None:
            values["gpu_ids"] = Setting("all", default)
        problems.extend(check_config_values(values, modes, config))
    else:
        if values["num_processes"].value is None:
            num_devices = num_visible_devices(command.env)
            where = Place("default", "", "accelerate: one per GPU")
            values["num_processes"] = Setting(num_devices, where)
        elif not modes["multi_gpu"]:
            num_devices = num_visible_devices(command.env)
        if values["num_machines"].value is None:
            values["num_machines"] = Setting(1, default)
        ranks = values["num_processes"].value
        if ranks > 1 and num_devices != 1 and not modes["multi_gpu"]:
            modes["multi_gpu"] = True
            mode_places["multi_gpu"] = Place("default", "", "accelerate: more than one GPU")
        if values["mixed_precision"].value is None:
            values["mixed_precision"] = Setting("no", default)
    if values["dynamo_backend"].value is None:
        values["dynamo_backend"] = Setting("no", default)
    mode, flag = _mode(modes)
    settings = LauncherSettings(
        values,
        config,
        mode,
        mode_places.get(flag, default),
        precision_from_config,
        uses_parallelism,
        num_devices,
    )
    problems.extend(check_settings(settings))
    return Reading(settings, tuple(problems))


def _note_dropped_mode(
    kind: Any, modes: Mapping[str, bool], places: Mapping[str, Place], config: AccelerateConfig
) -> Iterator[Problem]:
    given = next(flag for flag in MODE_FLAGS if modes[flag])
    same = {"use_deepspeed": "DEEPSPEED", "use_fsdp": "FSDP", "use_megatron_lm": "MEGATRON_LM"}
    if kind in ("FSDP", "DEEPSPEED", "MEGATRON_LM") and same.get(given) != kind:
        yield Problem(
            f"{places[given].where} drops the {kind} of the config file",
            config.where("distributed_type"),
            f"remove {places[given].where}",
            "PF107",
            "warning",
        )
    elif same.get(given) == kind and config.section("parallelism_config"):
        yield Problem(
            f"{places[given].where} on the command line keeps accelerate from using parallelism_config",
            config.where("parallelism_config"),
            f"remove {places[given].where}: distributed_type says it already",
            "PF107",
            "warning",
        )


def _precision_of(config: AccelerateConfig) -> Setting:
    precision = config.values.get("mixed_precision")
    if precision is None:
        return Setting("no", Place("default", "", "accelerate"))
    key = "mixed_precision" if "mixed_precision" in config.stated else "fp16"
    return Setting(precision, config.place(key))


def _mode(modes: Mapping[str, bool]) -> tuple[str, str]:
    """Return the launcher that accelerate picks and the flag that picked it; --cpu starts the script directly."""
    if modes["cpu"]:
        return "single", "cpu"
    order = {
        "use_deepspeed": "deepspeed",
        "use_fsdp": "fsdp",
        "use_megatron_lm": "megatron",
        "multi_gpu": "multi_gpu",
        "tpu": "tpu",
    }
    for flag, mode in order.items():
        if modes[flag]:
            return mode, flag
    return "single", "multi_gpu"
