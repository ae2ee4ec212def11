"""The accelerate config file: which one is read, what it may say, and how it fills the launcher's options."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import field, replace
from typing import Any

from preflight.errors import BadInput, Problem
from preflight.formats.document import Document
from preflight.formats.load import launch_text, load_json, load_yaml
from preflight.formats.missing import no_config
from preflight.launch import LaunchCommand
from preflight.launchers.accelerate import keys as keys
from preflight.launchers.accelerate.argv import BY_KEY
from preflight.near_names import nearest_fix
from preflight.reading import Problems, Reading
from preflight.setting import Place, Setting
from preflight.values import dataclass


@dataclass(frozen=True)
class AccelerateConfig:
    """An accelerate config file after accelerate's own conversions."""

    path: str
    """As the user spelled it."""
    is_default: bool
    document: Document
    values: Mapping[str, Any] = field(default_factory=dict)
    """Top-level key -> value, legacy keys converted, ClusterConfig defaults filled in."""
    stated: frozenset[str] = frozenset()
    """Top-level keys that the file itself has."""

    def place(self, key_path: str) -> Place:
        """Return where a key of this file is written."""
        kind = "json" if self.path.endswith(".json") else "yaml"
        return Place(kind, self.path, key_path, line=self.document.line(key_path))

    def where(self, key_path: str) -> str:
        return self.place(key_path).where

    def section(self, name: str) -> Mapping[str, Any]:
        """Return a section as a mapping; empty where it is missing or is none."""
        value = self.values.get(name)
        return value if isinstance(value, Mapping) else {}


def find_config(
    given: Mapping[str, Setting], command: LaunchCommand
) -> Reading[AccelerateConfig | None]:
    """Return the config file that this launch reads, or None where it reads none."""
    setting = given.get("config_file")
    if setting is not None:
        path, is_default = str(setting.value), False
        if not command.exists(path):
            problem = no_config(command, path, "config file", "--config_file", "PF111")
            return Reading(None, (problem,))
    else:
        path, is_default = default_config_path(command), True
        # `--cpu` alone keeps accelerate from reading the default file.
        if "cpu" in given or not command.exists(path):
            return Reading(None)
    return load_config(path, is_default, command)


def default_config_path(command: LaunchCommand) -> str:
    """Return where `accelerate config` writes: $HF_HOME, else $XDG_CACHE_HOME/huggingface, else ~/.cache/huggingface."""
    env = command.env
    home = env.get("HOME") or os.path.expanduser("~")
    cache = env.get("HF_HOME") or os.path.join(env.get("XDG_CACHE_HOME", "~/.cache"), "huggingface")
    if cache == "~" or cache.startswith("~/"):
        cache = home + cache[1:]
    # accelerate 1.15 looks for a .yaml only: its name for the old .json default is the same file.
    return os.path.join(cache, "accelerate", "default_config.yaml")


def load_config(
    path: str, is_default: bool, command: LaunchCommand
) -> Reading[AccelerateConfig | None]:
    """Read a config file and check its top level; a file that cannot be parsed raises."""
    text = launch_text(command, path, id="PF111")
    try:
        is_json = path.endswith(".json")
        document = load_json(text, path, "warning") if is_json else load_yaml(text, path)
    except BadInput as error:
        raise error.with_id("PF111") from error
    problems = Problems(replace(problem, id=problem.id or "PF103") for problem in document.problems)
    if not isinstance(document.value, Mapping):
        problems.append(
            Problem("the accelerate config must be a mapping of keys to values", path, id="PF111")
        )
        return Reading(None, tuple(problems))
    config = AccelerateConfig(path, is_default, document, {}, frozenset(map(str, document.value)))
    values = problems.take(_converted(config))
    return Reading(replace(config, values=values), tuple(problems))


def _converted(config: AccelerateConfig) -> Reading[dict[str, Any]]:
    """Apply accelerate's own conversions (BaseConfig.process_config) and its checks of the top level."""
    values = dict(config.document.value)
    problems = Problems()
    environment = values.setdefault("compute_environment", "LOCAL_MACHINE")
    if environment != "LOCAL_MACHINE":
        fix = "compute_environment: LOCAL_MACHINE, on Slurm and for several nodes too"
        problems.append(
            Problem(
                f"compute_environment must be LOCAL_MACHINE, not {environment!r}",
                config.where("compute_environment"),
                fix,
                "PF111",
            )
        )
    if "distributed_type" not in values:
        problems.append(
            Problem(
                "distributed_type is missing",
                config.path,
                f"one of {', '.join(keys.DISTRIBUTED_TYPES)}",
                "PF111",
            )
        )
    kind = values.get("distributed_type")
    if "num_processes" not in values and kind == "NO":
        values["num_processes"] = 1
    if "mixed_precision" not in values and "fp16" in values:
        values["mixed_precision"] = "fp16" if values["fp16"] else None
    values.pop("fp16", None)
    if "dynamo_backend" in values:
        backend = values.pop("dynamo_backend")
        values["dynamo_config"] = {} if backend == "NO" else {"dynamo_backend": backend}
    for key in values:
        if key not in keys.TOP_LEVEL_KEYS:
            problems.append(_unknown_top_level(str(key), config))
    if isinstance(kind, str) and kind not in keys.DISTRIBUTED_TYPES:
        near = nearest_fix(kind.upper(), keys.DISTRIBUTED_TYPES)
        problems.append(
            Problem(
                f"distributed_type {kind!r} is not one that accelerate has",
                config.where("distributed_type"),
                near or f"one of {', '.join(keys.DISTRIBUTED_TYPES)}",
                "PF111",
                refused_by="accelerate",
            )
        )
    elif "distributed_type" in values and not isinstance(kind, str):
        problems.append(_not_text("distributed_type", kind, config, 'distributed_type: "NO"'))
    for key, default in {"num_processes": -1, "machine_rank": 0, "num_machines": 1}.items():
        values.setdefault(key, default)
    return Reading(values, tuple(problems))


def _unknown_top_level(key: str, config: AccelerateConfig) -> Problem:
    for section in keys.SECTIONS:
        if key in keys.known_keys(section):
            fix = f"move it under {section}:"
            break
    else:
        fix = nearest_fix(key, keys.TOP_LEVEL_KEYS + keys.LEGACY_KEYS) or "remove it"
    return Problem(
        f"accelerate does not know the key {key!r} and refuses the file",
        config.where(key),
        fix,
        "PF111",
        refused_by="accelerate",
    )


def _not_text(key: str, value: Any, config: AccelerateConfig, fix: str) -> Problem:
    raw = config.document.raw(key) or str(value)
    return Problem(
        f"{key}: {raw} without quotes is the YAML value {str(value).lower()}, not a word: accelerate takes it for none of its modes and starts one process",
        config.where(key),
        fix,
        "PF110",
        "warning",
    )


def filled_from_config(
    options: Mapping[str, Setting], given: Mapping[str, Setting], config: AccelerateConfig
) -> Reading[dict[str, Setting]]:
    """Return the options with the file's values: of its top level only where one is None, of a section unless a flag gave it."""
    values = dict(options)
    problems = Problems()
    for key, value in config.values.items():
        if key in ("compute_environment", "mixed_precision", "distributed_type", *keys.SECTIONS):
            continue
        if key not in values or values[key].value is None:
            place = (
                config.place(key) if key in config.stated else Place("default", "", "accelerate")
            )
            values[key] = Setting(value, place)
    for section in keys.SECTIONS:
        content = config.values.get(section)
        if content is None or content == {}:
            continue
        if not isinstance(content, Mapping):
            problems.append(_not_a_section(section, content, config))
            continue
        for key, value in content.items():
            name = keys.with_prefix(section, str(key))
            if name not in keys.known_keys(section) and name not in BY_KEY:
                problems.append(_ignored(section, str(key), config))
            elif name not in given:
                values[name] = Setting(value, _section_place(config, section, str(key)))
    for key, default in keys.NEVER_APPLIED_KEYS.items():
        if key in config.stated and config.values[key] != default and key not in given:
            problems.append(
                Problem(
                    f"accelerate never applies {key} from a config file",
                    config.where(key),
                    f"give --{key} on the command line",
                    "PF102",
                    # `accelerate config` itself writes these keys, and what they ask for is seldom missed.
                    "info" if key == "same_network" else "warning",
                )
            )
    return Reading(values, tuple(problems))


def _section_place(config: AccelerateConfig, section: str, key: str) -> Place:
    if section == "dynamo_config" and "dynamo_backend" in config.stated:
        return config.place("dynamo_backend")
    return config.place(f"{section}.{key}")


def _ignored(section: str, key: str, config: AccelerateConfig) -> Problem:
    return Problem(
        f"accelerate ignores the key {key!r} in {section}",
        config.where(f"{section}.{key}"),
        keys.key_fix(section, key) or "remove it",
        "PF101",
        "warning",
        refused_by="accelerate",
    )


def _not_a_section(section: str, content: Any, config: AccelerateConfig) -> Problem:
    needed = {"deepspeed_config": "DEEPSPEED"}.get(section)
    stops = needed is not None and config.values.get("distributed_type") == needed
    shown = content if isinstance(content, str) else type(content).__name__
    fix = "a mapping of keys and values"
    if section == "deepspeed_config" and isinstance(content, str):
        fix = f"deepspeed_config: {{deepspeed_config_file: {content}}}"
    effect = (
        "accelerate stops on it" if stops else "accelerate passes over it and uses its defaults"
    )
    return Problem(
        f"{section} must be a mapping, not {shown!r}: {effect}",
        config.where(section),
        fix,
        "PF113",
        "error" if stops else "warning",
    )
