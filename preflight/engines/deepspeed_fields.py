"""A filled DeepSpeed config in plan fields, and what DeepSpeed itself refuses in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from preflight.engines import deepspeed_keys as keys
from preflight.engines.deepspeed_config import DeepSpeedConfig
from preflight.errors import Problem
from preflight.launch import DeepSpeedSettings
from preflight.libraries.resolve import Libraries
from preflight.near_names import nearest_fix
from preflight.reading import Problems, Reading
from preflight.setting import Place, Setting
from preflight.versions.deepspeed import REFUSES_REMOVED_KEYS

ZERO = "zero_optimization"
OFFLOAD_DEVICES = ("none", "cpu", "nvme")


def deepspeed_fields(config: DeepSpeedConfig) -> Reading[dict[str, Setting]]:
    """Return plan field -> value and place; nested fields as `deepspeed.reduce_bucket_size`."""
    problems = Problems()
    stage = problems.take(_stage(config))
    fields: dict[str, Setting] = {"engine": Setting(f"zero{stage}", config.place(f"{ZERO}.stage"))}
    half = config.is_true("fp16.enabled"), config.is_true("bf16.enabled")
    if all(half):
        problems.append(
            Problem(
                "fp16 and bf16 are both enabled",
                config.place("fp16.enabled").where,
                '"fp16": {"enabled": false}',
                "PF312",
            )
        )
    precision = "fp16" if half[0] else "bf16" if half[1] else "no"
    block = "fp16" if half[0] else "bf16"
    fields["mixed_precision"] = Setting(precision, config.place(f"{block}.enabled"))
    for name, field in (
        ("offload_optimizer", "offload_optimizer"),
        ("offload_param", "offload_params"),
    ):
        device = problems.take(_device(config, name))
        if device.value != "none" and name == "offload_param" and stage != 3:
            problems.append(
                Problem(
                    f"offload_param has no effect with ZeRO stage {stage}",
                    device.place.where,
                    "stage 3, or remove it",
                    "PF307",
                    "warning",
                )
            )
            continue
        if stage > 0:
            fields[field] = device
    ratio = config.get(f"{ZERO}.offload_optimizer.ratio")
    if isinstance(ratio, (int, float)) and ratio < 1 and stage != 3:
        problems.append(
            Problem(
                f"offload_optimizer.ratio {ratio} leaves a part of the states on the device: stage 3 only, and this is stage {stage}",
                config.place(f"{ZERO}.offload_optimizer.ratio").where,
                '"ratio": 1.0, or "stage": 3',
                "PF314",
            )
        )
    fields.update(problems.take(_sizes(config)))
    dtype = config.get("data_types.grad_accum_dtype")
    if dtype not in (None, "auto"):
        fields["deepspeed.grad_accum_dtype"] = config.setting("data_types.grad_accum_dtype")
    if stage > 0 and precision == "bf16" and config.is_true("bf16.bf16_master_weights_and_grads"):
        # With fp32 states DeepSpeed takes them only offloaded (runtime/base_optimizer.py:507, 0.19.8).
        both = config.is_true("bf16.bf16_optimizer_states")
        at = config.place("bf16.bf16_master_weights_and_grads")
        states = config.place("bf16.bf16_optimizer_states") if both else at
        fields["master_dtype"] = Setting("bf16", at)
        fields["optimizer_state_dtype"] = Setting("bf16" if both else "fp32", states)
    for name in ("offload_optimizer", "offload_param"):
        pinned = config.get(f"{ZERO}.{name}.pin_memory")
        if isinstance(pinned, bool):
            fields["deepspeed.offload_pin_memory"] = config.setting(f"{ZERO}.{name}.pin_memory")
    return Reading(fields, tuple(problems))


def nested_settings(fields: Mapping[str, Setting]) -> DeepSpeedSettings:
    """Return the `deepspeed` value of the plan from the dotted fields."""
    prefix = "deepspeed."
    return DeepSpeedSettings(
        **{name[len(prefix) :]: s.value for name, s in fields.items() if name.startswith(prefix)}
    )


def _stage(config: DeepSpeedConfig) -> Reading[int]:
    value = config.get(f"{ZERO}.stage")
    if value is None:
        return Reading(0)  # DeepSpeed's own default
    if isinstance(value, (int, float)) and value in (0, 1, 2, 3) and not isinstance(value, bool):
        return Reading(int(value))
    place = config.place(f"{ZERO}.stage")
    name = place.key.rpartition(".")[2].lstrip("-")
    wrong = f"{name} must be 0, 1, 2 or 3, not {value!r}"
    return Reading(0, (Problem(wrong, place.where, id="PF112"),))


_BEFORE = {"offload_optimizer": "cpu_offload", "offload_param": "cpu_offload_param"}
"""Section -> the switch that stood in its place, and still stands for the host (deepspeed/runtime/zero/config.py:209, 0.19.8)."""


def _device(config: DeepSpeedConfig, name: str) -> Reading[Setting]:
    key = f"{ZERO}.{name}.device"
    setting = config.setting(key)
    if config.is_true(f"{ZERO}.{_BEFORE[name]}"):
        return Reading(Setting("cpu", config.place(f"{ZERO}.{_BEFORE[name]}")))
    if setting.value in (None, "auto"):
        return Reading(Setting("none", setting.place))
    if setting.value not in OFFLOAD_DEVICES:
        shown = setting.place.key.rpartition(".")[2].lstrip("-")
        near = str(setting.value).lower()
        wrong = Problem(
            f"{shown} must be one of none, cpu, nvme, not {setting.value!r}",
            setting.place.where,
            f"write {near}" if near in OFFLOAD_DEVICES else "",
            "PF112",
        )
        return Reading(Setting("none", setting.place), (wrong,))
    if setting.value == "nvme" and config.get(f"{ZERO}.{name}.nvme_path") is None and config.path:
        without_path = Problem(
            f"{name} to nvme needs nvme_path",
            setting.place.where,
            '"nvme_path": "/local_nvme"',
            "PF112",
        )
        return Reading(setting, (without_path,))
    return Reading(setting)


def _sizes(config: DeepSpeedConfig) -> Reading[dict[str, Setting]]:
    fields: dict[str, Setting] = {}
    problems = Problems()
    for name, spellings in (*keys.INT_SETTINGS.items(), *keys.BOOL_SETTINGS.items()):
        for spelling in spellings:
            key = f"{ZERO}.{spelling}"
            if not config.has(key):
                continue
            value, place = config.get(key), config.place(key)
            if value == "auto":
                # A trainer or accelerate puts the model's own sizes; below stage 3 those of stage 3 have no effect.
                if spelling in keys.HIDDEN_SIZE_KEYS:
                    fields[f"deepspeed.{name}"] = Setting(None, place)
                elif name != "stage3_gather_16bit_weights_on_model_save":
                    problems.append(_dropped_auto(spelling, place))
                continue
            good, value = (
                _int(value) if name in keys.INT_SETTINGS else (isinstance(value, bool), value)
            )
            if not good:
                if value is None and name == "overlap_comm":
                    continue
                wanted = "a whole number" if name in keys.INT_SETTINGS else "true or false"
                problems.append(_bad_value(spelling, value, wanted, place))
                continue
            fields[f"deepspeed.{name}"] = Setting(value, place)
    return Reading(fields, tuple(problems))


def _int(value: Any) -> tuple[bool, Any]:
    """Return whether DeepSpeed takes this as a whole number, and the number."""
    if isinstance(value, bool) or value is None:
        return False, value
    if isinstance(value, str):
        return (True, int(value)) if value.isdecimal() else (False, value)
    if isinstance(value, float):
        return (True, int(value)) if value.is_integer() and value >= 0 else (False, value)
    return (True, value) if isinstance(value, int) and value >= 0 else (False, value)


def _bad_value(key: str, value: Any, wanted: str, place: Place) -> Problem:
    fix = ""
    if isinstance(value, str):
        try:
            fix = f"write {int(float(value))} without quotes"
        except (ValueError, OverflowError):
            fix = ""
    return Problem(f"{key} must be {wanted}, not {value!r}", place.where, fix, "PF112")


def _dropped_auto(key: str, place: Place) -> Problem:
    return Problem(
        f"nothing fills the auto of {key}: DeepSpeed uses its own default",
        place.where,
        "write the number that you want",
        "PF308",
        "info",
    )


def check_keys(config: DeepSpeedConfig, libraries: Libraries) -> Iterator[Problem]:
    """Yield what DeepSpeed refuses by name: unknown keys of zero_optimization, and removed ones.

    A removed key is refused only where somebody says a version that stops on it.
    """
    version = libraries.version("deepspeed")
    removed = REFUSES_REMOVED_KEYS.holds_in({"deepspeed": version})
    removed = removed and libraries.is_known("deepspeed")
    for key in config.values:
        if removed and key in keys.REMOVED_KEYS:
            yield Problem(
                f"DeepSpeed has removed {key} and stops on it",
                config.place(key).where,
                f"remove {key}",
                "PF309",
            )
    zero = config.values.get(ZERO, {})
    if not isinstance(zero, Mapping):
        return  # what is no object is said where its stage is read
    known = (*keys.ZERO_KEYS, *keys.ZERO_ALIASES)
    yield from _unknown(config, ZERO, zero, known, removed)
    for name, names in (
        ("offload_param", keys.OFFLOAD_PARAM_KEYS),
        ("offload_optimizer", keys.OFFLOAD_OPTIMIZER_KEYS),
    ):
        section = zero.get(name)
        if isinstance(section, Mapping):
            yield from _unknown(config, f"{ZERO}.{name}", section, names, removed)


def _unknown(
    config: DeepSpeedConfig,
    section: str,
    values: Mapping[str, Any],
    known: tuple[str, ...],
    removed: bool,
) -> Iterator[Problem]:
    for key, value in values.items():
        if key in known or value == "auto":
            continue  # DeepSpeed drops every `auto` before it checks the names
        if key in keys.REMOVED_ZERO_KEYS and not removed:
            continue
        yield Problem(
            f"DeepSpeed does not know {key} in {section} and stops on it",
            config.place(f"{section}.{key}").where,
            nearest_fix(key, known) or f"remove {key}",
            "PF309",
            refused_by="deepspeed",
        )
