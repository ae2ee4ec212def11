"""What `accelerate launch` decides before it starts anything: options, config file and mode, with its own refusals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from preflight.dialects import accelerate_keys as keys
from preflight.dialects.accelerate_argv import LauncherArguments
from preflight.dialects.accelerate_config import AccelerateConfig, fill_from_config, find_config
from preflight.dialects.accelerate_options import BY_KEY, DYNAMO_BACKENDS
from preflight.dialects.settings import Place, Setting
from preflight.errors import Problem
from preflight.launch import LaunchCommand

MODE_FLAGS = ("multi_gpu", "tpu", "tpu_use_cluster", "use_deepspeed", "use_fsdp", "use_megatron_lm")
"""Any of these on the command line keeps the config file's distributed_type from being applied."""
EXCLUSIVE_FLAGS = ("multi_gpu", "cpu", "tpu", "use_deepspeed", "use_fsdp")
PRECISIONS = ("no", "fp8", "fp16", "bf16")


@dataclass(frozen=True)
class LauncherSettings:
    """Every option as the launcher holds it when it starts workers."""

    values: Mapping[str, Setting]
    config: AccelerateConfig | None
    mode: str
    """deepspeed, fsdp, megatron, multi_gpu, tpu or single."""
    mode_place: Place
    precision_from_config: bool
    uses_parallelism_config: bool
    num_visible_devices: int | None
    """GPUs that this machine or CUDA_VISIBLE_DEVICES shows; only looked up where the launcher needs it."""

    def value(self, key: str) -> Any:
        setting = self.values.get(key)
        return None if setting is None else setting.value

    def place(self, key: str) -> Place:
        setting = self.values.get(key)
        return Place("default", "", "accelerate") if setting is None else setting.place

    def where(self, key: str) -> str:
        return self.place(key).where


def read_launcher_settings(
    arguments: LauncherArguments, command: LaunchCommand, problems: list[Problem]
) -> LauncherSettings:
    """Merge command line, config file and defaults as accelerate does; problems are collected in file order."""
    given = arguments.given
    default = Place("default", "", "accelerate")
    values = {key: Setting(option.default, default) for key, option in BY_KEY.items()}
    values.update(given)
    _check_flags(given, problems)
    config = find_config(given, command, problems)
    modes = {flag: bool(values[flag].value) for flag in (*MODE_FLAGS, "cpu")}
    mode_places = {flag: values[flag].place for flag in modes}
    uses_parallelism = bool(values["use_parallelism_config"].value)
    precision_from_config = False
    num_devices: int | None = None
    if config is not None:
        kind = config.values.get("distributed_type")
        if any(modes[flag] for flag in MODE_FLAGS):
            _note_dropped_mode(kind, modes, mode_places, config, problems)
        else:
            modes["use_deepspeed"] = kind == "DEEPSPEED"
            modes["multi_gpu"] = kind in keys.MULTI_DEVICE_TYPES
            modes["tpu"] = kind == "XLA"
            modes["use_fsdp"] = kind == "FSDP"
            modes["use_megatron_lm"] = kind == "MEGATRON_LM"
            mode_places = dict.fromkeys(mode_places, config.place("distributed_type"))
            uses_parallelism = config.values.get("parallelism_config") not in (None, {})
        fill_from_config(values, given, config, problems)
        precision_from_config = _fill_precision(values, config)
        if values["gpu_ids"].value is None:
            values["gpu_ids"] = Setting("all", default)
        _check_config_values(values, modes, config, problems)
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
    _check_precision(settings, problems)
    if mode != "deepspeed":  # the DeepSpeed launcher never looks at it
        _check_dynamo(settings, problems)
    if mode == "fsdp":
        _check_fsdp_loading(settings, problems)
    return settings


def _check_flags(given: Mapping[str, Setting], problems: list[Problem]) -> None:
    both = [flag for flag in EXCLUSIVE_FLAGS if flag in given]
    if len(both) > 1:
        shown = " and ".join(given[flag].place.where for flag in both)
        problems.append(Problem(f"{shown} cannot be combined", shown, "keep one of them", "PF111"))
    ranks = given.get("num_processes")
    if "multi_gpu" in given and ranks is not None and ranks.value < 2:
        problems.append(
            Problem(
                "--multi_gpu needs at least 2 processes",
                ranks.place.where,
                "drop --multi_gpu",
                "PF111",
            )
        )
    if "use_parallelism_config" in given and "use_fsdp" not in given:
        problems.append(
            Problem(
                "--use_parallelism_config works only with --use_fsdp",
                "--use_parallelism_config",
                "add --use_fsdp --fsdp_version 2, or use a parallelism_config section in the config file",
                "PF111",
            )
        )
    if "module" in given and "no_python" in given:
        problems.append(
            Problem("--module and --no_python cannot be combined", "--module", id="PF111")
        )


def _note_dropped_mode(
    kind: Any,
    modes: Mapping[str, bool],
    places: Mapping[str, Place],
    config: AccelerateConfig,
    problems: list[Problem],
) -> None:
    given = next(flag for flag in MODE_FLAGS if modes[flag])
    same = {"use_deepspeed": "DEEPSPEED", "use_fsdp": "FSDP", "use_megatron_lm": "MEGATRON_LM"}
    if kind in ("FSDP", "DEEPSPEED", "MEGATRON_LM") and same.get(given) != kind:
        problems.append(
            Problem(
                f"{places[given].where} drops the {kind} of the config file",
                config.where("distributed_type"),
                f"remove {places[given].where}",
                "PF107",
                "warning",
            )
        )
    elif same.get(given) == kind and config.section("parallelism_config"):
        problems.append(
            Problem(
                f"{places[given].where} on the command line keeps accelerate from using parallelism_config",
                config.where("parallelism_config"),
                f"remove {places[given].where}: distributed_type says it already",
                "PF107",
                "warning",
            )
        )


def _fill_precision(values: dict[str, Setting], config: AccelerateConfig) -> bool:
    if values["mixed_precision"].value:
        return False
    precision = config.values.get("mixed_precision")
    if precision is None:
        values["mixed_precision"] = Setting("no", Place("default", "", "accelerate"))
        return False
    key = "mixed_precision" if "mixed_precision" in config.stated else "fp16"
    values["mixed_precision"] = Setting(precision, config.place(key))
    return True


def _check_config_values(
    values: dict[str, Setting],
    modes: Mapping[str, bool],
    config: AccelerateConfig,
    problems: list[Problem],
) -> None:
    gpu_ids = values["gpu_ids"]
    num_machines = values["num_machines"].value
    if not isinstance(gpu_ids.value, str):
        shown = (
            ",".join(map(str, gpu_ids.value)) if isinstance(gpu_ids.value, list) else gpu_ids.value
        )
        problems.append(
            Problem(
                f"gpu_ids must be text, not {gpu_ids.value!r}",
                gpu_ids.place.where,
                f"gpu_ids: '{shown}'",
                "PF111",
            )
        )
    elif (
        gpu_ids.value != "all"
        and "," not in gpu_ids.value
        and modes["multi_gpu"]
        and num_machines in (0, 1)
    ):
        problems.append(
            Problem(
                f"gpu_ids names one GPU ({gpu_ids.value}), but the launch is a multi-GPU one",
                gpu_ids.place.where,
                "gpu_ids: all",
                "PF111",
            )
        )
    if values["num_processes"].value == -1:
        stated = "num_processes" in config.stated
        problems.append(
            Problem(
                "num_processes is -1" if stated else "num_processes is missing",
                config.where("num_processes"),
                "num_processes: the number of ranks on all nodes together, or --num_processes",
                "PF111",
            )
        )


def _check_precision(settings: LauncherSettings, problems: list[Problem]) -> None:
    value = settings.value("mixed_precision")
    where = settings.where("mixed_precision")
    if isinstance(value, str) and value.lower() in PRECISIONS:
        return
    if isinstance(value, bool):
        raw = _raw(settings, "mixed_precision") or str(value).lower()
        problems.append(
            Problem(
                f"mixed_precision: {raw} without quotes is the YAML value {str(value).lower()}, and accelerate stops on it",
                where,
                f"mixed_precision: '{raw}'",
                "PF110",
            )
        )
        return
    choices = ", ".join(PRECISIONS)
    problems.append(
        Problem(f"mixed_precision must be one of {choices}, not {value!r}", where, id="PF111")
    )


def _check_dynamo(settings: LauncherSettings, problems: list[Problem]) -> None:
    value = settings.value("dynamo_backend")
    place = settings.place("dynamo_backend")
    if isinstance(value, str) and value.upper() in ("NO", *DYNAMO_BACKENDS):
        return
    fix, id = "one of no, inductor, eager, aot_eager, cudagraphs", "PF111"
    if isinstance(value, bool):
        raw = settings.config.document.raw(place.key) if settings.config else None
        fix, id = f"dynamo_backend: '{raw or 'no'}'", "PF110"
    problems.append(Problem(f"dynamo_backend must be a word, not {value!r}", place.where, fix, id))


def _check_fsdp_loading(settings: LauncherSettings, problems: list[Problem]) -> None:
    """Refuse what the launcher refuses: the text `false` of a flag is true to it, a YAML false is not."""
    syncs = settings.values["fsdp_sync_module_states"]
    if settings.value("fsdp_cpu_ram_efficient_loading") and not syncs.value:
        problems.append(
            Problem(
                "fsdp_sync_module_states must be true where fsdp_cpu_ram_efficient_loading is",
                syncs.place.where,
                "fsdp_sync_module_states: true",
                "PF111",
            )
        )


def _raw(settings: LauncherSettings, key: str) -> str | None:
    return settings.config.document.raw(key) if settings.config is not None else None


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


def num_visible_devices(env: Mapping[str, str]) -> int:
    """Return how many NVIDIA GPUs a launcher here would count: CUDA_VISIBLE_DEVICES, else the driver's device files."""
    import os

    listed = env.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        ids = [word.strip() for word in listed.split(",")]
        # CUDA stops at the first id that it does not know.
        return next((index for index, word in enumerate(ids) if word in ("", "-1")), len(ids))
    try:
        return sum(name.startswith("nvidia") and name[6:].isdigit() for name in os.listdir("/dev"))
    except OSError:
        return 0
