"""A torchtitan config: the TOML file or the named Python config, and the flags of the command line over it.

Source: ConfigManager of torchtitan 0.2.2 (config/manager.py: CLI over TOML over defaults) and 0.3.0
(CLI over the function of config_registry). tyro takes `-` and `_` alike, the last of two flags, `--x` and `--no-x`
for a bool, and in 0.3 `activation-checkpoint:full` as the last word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from preflight.errors import BadInput, Problem
from preflight.launch import LaunchCommand
from preflight.launchers.torchtitan.table import (
    MODULE_VERSION,
    file_version,
    flag_names,
    is_key,
    table,
)
from preflight.near_names import nearest_fix
from preflight.setting import Place, Setting
from preflight.values import dataclass

Words = Sequence[tuple[int | None, str]]
"""Words of the script with their argv index; None for those of run_train.sh."""
IGNORES_UNKNOWN = "0.1.0"
"""Its TOML may hold anything (_dict_to_dataclass, config_manager.py); from 0.2.0 on a strange key is an error."""
FILE_FLAG = "job.config_file"
SUBCOMMAND = "activation_checkpoint:"
CHECKPOINTING = {
    "SelectiveAC": "selective",
    "FullAC": "full",
    "MemoryBudgetAC": "memory-budget",
    "NoneType": "none",
}
KEY = re.compile(r"\s*(?:\[([^\[\]]+)\]|([A-Za-z0-9_.\"-]+)\s*=)")


@dataclass
class TitanConfig:
    """What one launch of torchtitan is told; filled while reading."""

    version: str
    given: dict[str, Setting] = field(default_factory=dict)
    """`section.key` -> value; a flag beats the file."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """section -> key -> what holds where nobody says."""
    path: str | None = None
    entry: Mapping[str, Any] | None = None
    """The table of a named Python config."""
    module: str = ""
    overrides: dict[str, int] = field(default_factory=dict)
    is_extended: bool = False
    """A module of one's own adds keys."""

    def default(self, key: str) -> Any:
        section, _, name = key.partition(".")
        return self.defaults.get(section, {}).get(name)


@dataclass
class Flags:
    """The words of the script, taken apart."""

    values: dict[str, Setting] = field(default_factory=dict)
    loose: list[tuple[int | None, str]] = field(default_factory=list)
    subcommand: tuple[int | None, str] | None = None


def read_config(
    command: LaunchCommand, words: Words, installed: str | None, problems: list[Problem]
) -> TitanConfig:
    """Return the config of a launch; BadInput where there is none to read."""
    flags = parse_flags(words, problems)
    if "module" in flags.values or "config" in flags.values:
        config = _named(flags, problems)
    else:
        config = _from_file(command, flags, installed)
    _apply(config, flags, problems)
    return config


def parse_flags(words: Words, problems: list[Problem]) -> Flags:
    """Return the flags: `--a.b c`, `--a.b=c`, `--a.b`, `--a.no-b`."""
    flags = Flags()
    position = 0
    while position < len(words):
        index, word = words[position]
        position += 1
        if not word.startswith("--"):
            normal = word.replace("-", "_")
            if normal.startswith(SUBCOMMAND):
                flags.subcommand = (index, word.partition(":")[2])
            else:
                flags.loose.append((index, word))
            continue
        name, joined, text = word[2:].partition("=")
        value: Any = text
        if not joined:
            if position < len(words) and not words[position][1].startswith("--"):
                following = words[position][1].replace("-", "_")
                if following.startswith(SUBCOMMAND):
                    value = True
                else:
                    value = words[position][1]
                    position += 1
            else:
                value = True
        key = name.replace("-", "_")
        section, _, inner = key.rpartition(".")
        if value is True and inner.startswith("no_"):
            key, value = f"{section}.{inner[3:]}", False
        place = Place("argv", "", f"--{name}", index=index)
        flags.values[key] = Setting(_typed(value), place)
    for _, word in flags.loose:
        problems.append(
            Problem(f"{word!r} stands alone: torchtitan takes flags only", word, "drop it", "PF111")
        )
    return flags


def _typed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            pass
    return {"True": True, "False": False, "None": None}.get(value, value)


def _from_file(command: LaunchCommand, flags: Flags, installed: str | None) -> TitanConfig:
    named = flags.values.pop(FILE_FLAG, None)
    found: dict[tuple[str, str], Setting] = {}
    path = None
    if named is not None:
        path = str(named.value)
        found = _read_toml(command, path)
    asked = {**found, **{_split(key): s for key, s in flags.values.items()}}
    version = file_version(asked, installed)
    config = TitanConfig(version, defaults=table(version)["defaults"], path=path)
    config.given = {f"{section}.{name}": s for (section, name), s in found.items()}
    extending = ("job.custom_config_module", "experimental.custom_args_module")
    config.is_extended = any(
        (s := asked.get(_split(key))) is not None and bool(s.value) for key in extending
    )
    return config


def _split(key: str) -> tuple[str, str]:
    section, _, name = key.rpartition(".")
    return section, name


def _read_toml(command: LaunchCommand, path: str) -> dict[tuple[str, str], Setting]:
    import sys
    from importlib import import_module

    # tomllib came with Python 3.11; tomli is the same code for 3.10.
    toml: Any = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        text = command.read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput.one(f"cannot read {path}: {error}", f"--{FILE_FLAG}") from error
    try:
        values = toml.loads(text)
    except toml.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        where = f"{path}:{line[1]}" if line else path
        raise BadInput.one(f"{path} is not TOML: {error}", where, "", "PF141") from error
    lines = _lines(text)
    found: dict[tuple[str, str], Setting] = {}

    def collect(section: str, inner: Mapping[str, Any]) -> None:
        for key, value in inner.items():
            full = f"{section}.{key}" if section else key
            if isinstance(value, Mapping):
                collect(full, value)
                continue
            place = Place("toml", path, full, lines.get(full))
            found[(section, key)] = Setting(value, place)

    collect("", values)
    return found


def _lines(text: str) -> dict[str, int]:
    """Return dotted key -> line; of what a line-by-line look tells."""
    lines: dict[str, int] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        match = KEY.match(line)
        if match is None:
            continue
        if match[1] is not None:
            section = match[1].strip().replace('"', "")
            lines.setdefault(section, number)
        else:
            key = match[2].replace('"', "")
            lines.setdefault(f"{section}.{key}" if section else key, number)
    return lines


def _named(flags: Flags, problems: list[Problem]) -> TitanConfig:
    """Return the config that `--module` and `--config` name (config/manager.py:54, 0.3.0)."""
    module, name = flags.values.pop("module", None), flags.values.pop("config", None)
    if module is None or name is None:
        raise BadInput.one(
            "--module and --config go together",
            "--config" if module is None else "--module",
            "--module llama3 --config llama3_8b",
            "PF111",
        )
    config = TitanConfig(MODULE_VERSION, module=str(module.value))
    configs = table(MODULE_VERSION)["configs"]
    known = configs.get(module.value)
    if known is None:
        near = nearest_fix(str(module.value), tuple(configs))
        problems.append(
            Problem(
                f"the configs of module {module.value} are Python that preflight does not run: what they say is not known",
                module.place.where,
                near or "--set model=ID --set micro_batch_size=N --set seq_len=N",
                "PF142",
                "warning",
            )
        )
        return config
    entry = known.get(name.value)
    if entry is None:
        raise BadInput.one(
            f"there is no config {name.value} in torchtitan.models.{module.value} {MODULE_VERSION}",
            "--config",
            nearest_fix(str(name.value), tuple(known)) or f"one of {', '.join(known)}",
            "PF111",
        )
    config.entry = entry
    config.defaults = {key: entry[key] for key in ("training", "parallelism", "compile")}
    return config


def _apply(config: TitanConfig, flags: Flags, problems: list[Problem]) -> None:
    for key, setting in list(config.given.items()):
        _check(config, key, setting, problems)
    for key, setting in flags.values.items():
        _check(config, key, setting, problems)
        config.given[key] = setting
        if setting.place.index is not None:
            config.overrides[key] = setting.place.index
    if flags.subcommand is not None:
        index, name = flags.subcommand
        place = Place("argv", "", f"activation-checkpoint:{name}", index=index)
        config.given["activation_checkpoint.mode"] = Setting(name.lower(), place)
        if index is not None:
            config.overrides["activation_checkpoint.mode"] = index


def _check(config: TitanConfig, key: str, setting: Setting, problems: list[Problem]) -> None:
    """Refuse a key that the release does not have: neither its dataclasses nor tyro take it."""
    if config.is_extended or is_key(config.version, *_split(key)):
        return
    if "." not in key and key in table(config.version)["keys"]:
        return
    if config.version == MODULE_VERSION and config.entry is None:
        return
    if key.startswith("activation_checkpoint.") and config.version == MODULE_VERSION:
        fix = "activation-checkpoint:full as the last word"
    else:
        fix = _nearest(config.version, key)
    if setting.place.kind == "toml" and config.version == IGNORES_UNKNOWN:
        message = f"torchtitan {config.version} does not read {key}: it has no effect"
        problems.append(Problem(message, setting.place.where, fix, "PF140", "warning"))
        return
    problems.append(
        Problem(
            f"torchtitan {config.version} has no {key}",
            setting.place.where,
            fix,
            "PF141" if setting.place.kind == "toml" else "PF111",
        )
    )


def _nearest(version: str, key: str) -> str:
    """Return the nearest key; one of the same name in another section first."""
    name = key.rpartition(".")[2]
    names = flag_names(version)
    same = [known for known in names if known.rpartition(".")[2] == name]
    if same:
        return f"did you mean {same[0]}"
    return nearest_fix(key, names) or f"drop {key}"
