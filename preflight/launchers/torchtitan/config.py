"""A torchtitan config: the TOML file or the named Python config, and the flags of the command line over it.

Source: ConfigManager of torchtitan 0.2.2 (config/manager.py: CLI over TOML over defaults) and 0.3.0
(CLI over the function of config_registry). tyro takes `-` and `_` alike, the last of two flags, `--x` and `--no-x`
for a bool, and in 0.3 `activation-checkpoint:full` as the last word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from preflight.errors import BadInput, Problem
from preflight.formats.toml import toml_leaves
from preflight.launch import LaunchCommand
from preflight.launchers.torchtitan.config_values import TitanConfig
from preflight.launchers.torchtitan.table import (
    MODULE_VERSION,
    file_version,
    flag_names,
    is_key,
    table,
)
from preflight.launchers.torchtitan.working_copy import in_rows, read_copy, unknown_keys
from preflight.near_names import nearest_fix
from preflight.reading import Problems, Reading
from preflight.setting import Place, Setting
from preflight.values import dataclass

Words = Sequence[tuple[int | None, str]]
"""Words of the script with their argv index; None for those of run_train.sh."""
IGNORES_UNKNOWN = "0.1.0"
"""Its TOML may hold anything (_dict_to_dataclass, config_manager.py); from 0.2.0 on a strange key is an error."""
WORKING_COPY = "torchtitan/train.py"
"""Is what a launch in a checkout imports: it may have keys that no release has."""
FILE_FLAG = "job.config_file"
SUBCOMMAND = "activation_checkpoint:"
CHECKPOINTING = {
    "SelectiveAC": "selective",
    "FullAC": "full",
    "MemoryBudgetAC": "memory-budget",
    "NoneType": "none",
}


@dataclass(frozen=True)
class Flags:
    """The words of the script, taken apart."""

    values: Mapping[str, Setting]
    subcommand: tuple[int | None, str] | None


def read_config(
    command: LaunchCommand, words: Words, installed: str | None
) -> Reading[TitanConfig]:
    """Return the config of a launch; BadInput where there is none to read."""
    problems = Problems()
    flags = problems.take(parse_flags(words))
    values = dict(flags.values)
    if "module" in values or "config" in values:
        module, name = values.pop("module", None), values.pop("config", None)
        config = problems.take(_named(command, module, name))
    else:
        config = _from_file(command, values.pop(FILE_FLAG, None), values, installed)
    if config.copied_from is not None:
        problems.extend(unknown_keys(config, values))
        return Reading(in_rows(_with_flags(config, values, flags.subcommand)), tuple(problems))
    unknown = list(_unknown_keys(config, values))
    if command.exists(WORKING_COPY):
        unknown = [_of_working_copy(problem) for problem in unknown]
    problems.extend(unknown)
    return Reading(_with_flags(config, values, flags.subcommand), tuple(problems))


def parse_flags(words: Words) -> Reading[Flags]:
    """Return the flags: `--a.b c`, `--a.b=c`, `--a.b`, `--a.no-b`."""
    values: dict[str, Setting] = {}
    subcommand: tuple[int | None, str] | None = None
    problems = Problems()
    position = 0
    while position < len(words):
        index, word = words[position]
        position += 1
        if not word.startswith("--"):
            normal = word.replace("-", "_")
            if normal.startswith(SUBCOMMAND):
                subcommand = (index, word.partition(":")[2])
            else:
                alone = f"{word!r} stands alone: torchtitan takes flags only"
                problems.append(Problem(alone, word, "drop it", "PF111"))
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
        values[key] = Setting(_typed(value), place)
    return Reading(Flags(values, subcommand), tuple(problems))


def _typed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            pass
    return {"True": True, "False": False, "None": None}.get(value, value)


def _from_file(
    command: LaunchCommand,
    named: Setting | None,
    flags: Mapping[str, Setting],
    installed: str | None,
) -> TitanConfig:
    found: dict[tuple[str, str], Setting] = {}
    path = None
    if named is not None:
        path = str(named.value)
        leaves = toml_leaves(command, path, f"--{FILE_FLAG}")
        found = {_split(key): setting for key, setting in leaves.items()}
    asked = {**found, **{_split(key): s for key, s in flags.items()}}
    version = file_version(asked, installed)
    extending = ("job.custom_config_module", "experimental.custom_args_module")
    return TitanConfig(
        version,
        given={f"{section}.{name}": s for (section, name), s in found.items()},
        defaults=table(version)["defaults"],
        path=path,
        is_extended=any(
            (s := asked.get(_split(key))) is not None and bool(s.value) for key in extending
        ),
    )


def _split(key: str) -> tuple[str, str]:
    section, _, name = key.rpartition(".")
    return section, name


def _named(
    command: LaunchCommand, module: Setting | None, name: Setting | None
) -> Reading[TitanConfig]:
    """Return the config that `--module` and `--config` name (config/manager.py:54, 0.3.0)."""
    if module is None or name is None:
        raise BadInput.one(
            "--module and --config go together",
            "--config" if module is None else "--module",
            "--module llama3 --config llama3_8b",
            "PF111",
        )
    copied = read_copy(command, module, name)
    if copied is not None:
        return copied
    config = TitanConfig(MODULE_VERSION, module=str(module.value))
    configs = table(MODULE_VERSION)["configs"]
    known = configs.get(module.value)
    if known is None:
        near = nearest_fix(str(module.value), tuple(configs))
        unknown = Problem(
            f"the configs of module {module.value} are Python that preflight does not run: what they say is not known",
            module.place.where,
            near or "--set model=ID --set micro_batch_size=N --set seq_len=N",
            "PF142",
            "warning",
        )
        return Reading(config, (unknown,))
    entry = known.get(name.value)
    if entry is None:
        raise BadInput.one(
            f"there is no config {name.value} in torchtitan.models.{module.value} {MODULE_VERSION}",
            "--config",
            nearest_fix(str(name.value), tuple(known)) or f"one of {', '.join(known)}",
            "PF111",
        )
    defaults = {key: entry[key] for key in ("training", "parallelism", "compile")}
    return Reading(replace(config, entry=entry, defaults=defaults))


def _with_flags(
    config: TitanConfig, flags: Mapping[str, Setting], subcommand: tuple[int | None, str] | None
) -> TitanConfig:
    given = {**config.given, **flags}
    indexed = {key: setting.place.index for key, setting in flags.items()}
    overrides = {key: index for key, index in indexed.items() if index is not None}
    if subcommand is not None:
        index, name = subcommand
        place = Place("argv", "", f"activation-checkpoint:{name}", index=index)
        given["activation_checkpoint.mode"] = Setting(name.lower(), place)
        if index is not None:
            overrides["activation_checkpoint.mode"] = index
    return replace(config, given=given, overrides=overrides)


def _unknown_keys(config: TitanConfig, flags: Mapping[str, Setting]) -> Iterator[Problem]:
    """Yield the keys that the release does not have: neither its dataclasses nor tyro take them."""
    if config.is_extended or (config.version == MODULE_VERSION and config.entry is None):
        return
    for key, setting in (*config.given.items(), *flags.items()):
        is_section = "." not in key and key in table(config.version)["keys"]
        if not is_section and not is_key(config.version, *_split(key)):
            yield _unknown_key(config, key, setting)


def _of_working_copy(problem: Problem) -> Problem:
    """Return what is said of a key that the working copy may have, and the release does not."""
    return replace(
        problem,
        message=f"{problem.message}, and the working copy here may have it",
        severity="warning",
        unpriced="a setting that no release of torchtitan has",
        takes="either",
    )


def _unknown_key(config: TitanConfig, key: str, setting: Setting) -> Problem:
    if key.startswith("activation_checkpoint.") and config.version == MODULE_VERSION:
        fix = "activation-checkpoint:full as the last word"
    else:
        fix = _nearest(config.version, key)
    if setting.place.kind == "toml" and config.version == IGNORES_UNKNOWN:
        message = f"torchtitan {config.version} does not read {key}: it has no effect"
        return Problem(message, setting.place.where, fix, "PF140", "warning")
    return Problem(
        f"torchtitan {config.version} has no {key}",
        setting.place.where,
        fix,
        "PF141" if setting.place.kind == "toml" else "PF111",
    )


def _nearest(version: str, key: str) -> str:
    """Return the nearest key; one of the same name in another section first."""
    name = key.rpartition(".")[2]
    names = flag_names(version)
    same = [known for known in names if known.rpartition(".")[2] == name]
    if same:
        return f"did you mean {same[0]}"
    return nearest_fix(key, names) or f"drop {key}"
