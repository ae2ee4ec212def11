"""What `accelerate launch` itself refuses, before any worker exists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from preflight.errors import Problem
from preflight.launchers.accelerate.keys import DYNAMO_BACKENDS
from preflight.setting import Setting

if TYPE_CHECKING:
    from preflight.launchers.accelerate.config import AccelerateConfig
    from preflight.launchers.accelerate.settings import LauncherSettings

EXCLUSIVE_FLAGS = ("multi_gpu", "cpu", "tpu", "use_deepspeed", "use_fsdp")
PRECISIONS = ("no", "fp8", "fp16", "bf16")


def check_flags(given: Mapping[str, Setting]) -> Iterator[Problem]:
    """Refuse flags that cannot stand together, before any file is read."""
    both = [flag for flag in EXCLUSIVE_FLAGS if flag in given]
    if len(both) > 1:
        shown = " and ".join(given[flag].place.where for flag in both)
        yield Problem(f"{shown} cannot be combined", shown, "keep one of them", "PF111")
    ranks = given.get("num_processes")
    if "multi_gpu" in given and ranks is not None and ranks.value < 2:
        yield Problem(
            "--multi_gpu needs at least 2 processes", ranks.place.where, "drop --multi_gpu", "PF111"
        )
    if "use_parallelism_config" in given and "use_fsdp" not in given:
        yield Problem(
            "--use_parallelism_config works only with --use_fsdp",
            "--use_parallelism_config",
            "add --use_fsdp --fsdp_version 2, or use a parallelism_config section in the config file",
            "PF111",
        )
    if "module" in given and "no_python" in given:
        yield Problem("--module and --no_python cannot be combined", "--module", id="PF111")


def check_config_values(
    values: dict[str, Setting], modes: Mapping[str, bool], config: AccelerateConfig
) -> Iterator[Problem]:
    """Refuse GPU ids and process counts that the launcher stops on when they come from a file."""
    gpu_ids = values["gpu_ids"]
    num_machines = values["num_machines"].value
    if not isinstance(gpu_ids.value, str):
        shown = (
            ",".join(map(str, gpu_ids.value)) if isinstance(gpu_ids.value, list) else gpu_ids.value
        )
        yield Problem(
            f"gpu_ids must be text, not {gpu_ids.value!r}",
            gpu_ids.place.where,
            f"gpu_ids: '{shown}'",
            "PF111",
        )
    elif (
        gpu_ids.value != "all"
        and "," not in gpu_ids.value
        and modes["multi_gpu"]
        and num_machines in (0, 1)
    ):
        yield Problem(
            f"gpu_ids names one GPU ({gpu_ids.value}), but the launch is a multi-GPU one",
            gpu_ids.place.where,
            "gpu_ids: all",
            "PF111",
        )
    if values["num_processes"].value == -1:
        stated = "num_processes" in config.stated
        yield Problem(
            "num_processes is -1" if stated else "num_processes is missing",
            config.where("num_processes"),
            "num_processes: the number of ranks on all nodes together, or --num_processes",
            "PF111",
        )


def check_settings(settings: LauncherSettings) -> Iterator[Problem]:
    """Refuse what the launcher of the chosen mode stops on."""
    yield from _check_precision(settings)
    if settings.mode != "deepspeed":  # the DeepSpeed launcher never looks at it
        yield from _check_dynamo(settings)
    if settings.mode == "fsdp":
        yield from _check_fsdp_loading(settings)
    if settings.mode != "single" and settings.uses_parallelism_config:
        for key in ("parallelism_config_cp_size", "parallelism_config_sp_size"):
            size = settings.values[key]
            if not isinstance(size.value, (int, float)):  # the launcher compares these two itself
                yield Problem(
                    f"{key} must be a number, not {size.value!r}", size.place.where, id="PF111"
                )


def _check_precision(settings: LauncherSettings) -> Iterator[Problem]:
    value = settings.value("mixed_precision")
    where = settings.where("mixed_precision")
    if isinstance(value, str) and value.lower() in PRECISIONS:
        return
    if isinstance(value, bool):
        raw = _raw(settings, "mixed_precision") or str(value).lower()
        yield Problem(
            f"mixed_precision: {raw} without quotes is the YAML value {str(value).lower()}, and accelerate stops on it",
            where,
            f"mixed_precision: '{raw}'",
            "PF110",
        )
        return
    choices = ", ".join(PRECISIONS)
    yield Problem(f"mixed_precision must be one of {choices}, not {value!r}", where, id="PF111")


def _check_dynamo(settings: LauncherSettings) -> Iterator[Problem]:
    value = settings.value("dynamo_backend")
    place = settings.place("dynamo_backend")
    if isinstance(value, str) and value.upper() in ("NO", *DYNAMO_BACKENDS):
        yield from _cuda_graphs(settings, value.upper())
        return
    fix, id = "one of no, inductor, eager, aot_eager, cudagraphs", "PF111"
    if isinstance(value, bool):
        raw = settings.config.document.raw(place.key) if settings.config else None
        fix, id = f"dynamo_backend: '{raw or 'no'}'", "PF110"
    yield Problem(f"dynamo_backend must be a word, not {value!r}", place.where, fix, id)


def _cuda_graphs(settings: LauncherSettings, backend: str) -> Iterator[Problem]:
    """Yield that what accelerate compiles replays CUDA graphs, whose pools nobody counts (torch.compile's `mode`)."""
    mode = str(settings.value("dynamo_mode"))
    records = backend == "CUDAGRAPHS" or (
        backend == "INDUCTOR" and mode in ("reduce-overhead", "max-autotune")
    )
    if records and settings.mode != "deepspeed":  # that launcher leaves torch.compile out
        message = "the pools of CUDA graphs are not in the estimate"
        option = "dynamo_backend" if backend == "CUDAGRAPHS" else "dynamo_mode"
        yield Problem.left_out(message, settings.place(option).where, "CUDA graphs", "more")


def _check_fsdp_loading(settings: LauncherSettings) -> Iterator[Problem]:
    """Refuse what the launcher refuses: the text `false` of a flag is true to it, a YAML false is not."""
    syncs = settings.values["fsdp_sync_module_states"]
    if settings.value("fsdp_cpu_ram_efficient_loading") and not syncs.value:
        yield Problem(
            "fsdp_sync_module_states must be true where fsdp_cpu_ram_efficient_loading is",
            syncs.place.where,
            "fsdp_sync_module_states: true",
            "PF210",
        )


def _raw(settings: LauncherSettings, key: str) -> str | None:
    return settings.config.document.raw(key) if settings.config is not None else None


def check_beside_file(settings: LauncherSettings, stated: Setting | None) -> Iterator[Problem]:
    """Refuse keys of the accelerate config that must not stand beside a DeepSpeed file."""
    config = settings.config
    if stated is None or config is None or settings.mode != "deepspeed":
        return
    from preflight.engines.deepspeed_keys import FORBIDDEN_BESIDE_FILE

    names = [key for key in config.section("deepspeed_config") if key in FORBIDDEN_BESIDE_FILE]
    yield from (
        Problem(
            f"{name} must not stand beside a DeepSpeed file ({stated.place.where})",
            config.where(f"deepspeed_config.{name}"),
            f"remove {name} here and set it in the DeepSpeed file",
            "PF302",
        )
        for name in names
    )
    if settings.precision_from_config:
        yield Problem(
            f"mixed_precision must not stand beside a DeepSpeed file ({stated.place.where})",
            settings.where("mixed_precision"),
            f"remove it here and give --mixed_precision {settings.value('mixed_precision')} on the command line",
            "PF302",
        )
