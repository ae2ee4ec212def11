"""The words of an axolotl training command: its config, the keys that beat it, and what goes to the launcher.

Source: train in cli/main.py, add_options_from_config_options in cli/utils/args.py, _coerce_value and load_cfg
in cli/config.py of axolotl 0.19.0, and Fire, which reads the words of the module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import Any

from preflight.bool_words import AXOLOTL_OPTION
from preflight.errors import Problem
from preflight.launchers.axolotl.keys import axolotl_table, option_of
from preflight.reading import Problems, Reading
from preflight.setting import Place, Setting
from preflight.values import dataclass

LAUNCHERS = ("accelerate", "torchrun", "python")
OWN_OPTIONS = ("--launcher", "--cloud", "--sweep")
USAGE = "axolotl train config.yaml [--key value] [-- launcher options]"


@dataclass(frozen=True)
class AxolotlWords:
    """The words of the command, split."""

    script_index: int
    config: str | None = None
    """The config's path."""
    config_index: int | None = None
    """Its argv index; None where the config is the attached value of a flag."""
    launcher: str = "accelerate"
    launcher_place: Place = Place("argv", "", "axolotl", index=0)
    launcher_indices: tuple[int, ...] = ()
    """argv indices of the words that go to the launcher."""
    overrides: Mapping[str, Setting] = field(default_factory=dict)
    """Key (dotted below a section) -> value; beats the file."""


def split_cli(argv: Sequence[str], first: int) -> Reading[AxolotlWords]:
    """Split the words behind `axolotl`: what its click command does not know goes to the launcher."""
    words = AxolotlWords(script_index=first)
    config_index: int | None = None
    launcher_indices: list[int] = []
    overrides: dict[str, Setting] = {}
    problems = Problems()
    index = first + 1
    while index < len(argv):
        word = argv[index]
        name, equals, attached = word.partition("=")
        if word == "--":
            rest = list(range(index + 1, len(argv)))
            if config_index is None and rest:
                config_index = rest.pop(0)
            launcher_indices += rest
            break
        place, option = Place("argv", "", name, index=index), option_of(name)
        if name in OWN_OPTIONS or (option is not None and option.takes_value):
            if not equals:
                index += 1
                if index >= len(argv):
                    problems.append(_wrong(f"{name} needs a value", name))
                    break
                attached = argv[index]
            if option is not None:
                overrides[option.key] = Setting(inferred(attached), place)
            elif name == "--launcher":
                words = replace(words, launcher=attached, launcher_place=place)
                problems.extend(_check_launcher(words))
            else:
                problems.append(_several_launches(name))
        elif option is not None:
            if equals:
                key = option.key.replace("_", "-")
                problems.append(_wrong(f"{name} takes no value", name, f"--{key} or --no-{key}"))
            overrides[option.key] = Setting(not option.says_false, place)
        elif word.startswith("-") or config_index is not None:
            launcher_indices.append(index)
        else:
            config_index = index
        index += 1
    if config_index is None and not problems:
        problems.append(_wrong("the command names no config", "axolotl train", USAGE))
    words = replace(
        words,
        config=None if config_index is None else argv[config_index],
        config_index=config_index,
        launcher_indices=tuple(launcher_indices),
        overrides=overrides,
    )
    return Reading(words, tuple(problems))


def _check_launcher(words: AxolotlWords) -> Iterator[Problem]:
    if words.launcher not in LAUNCHERS:
        wanted = ", ".join(LAUNCHERS)
        yield _wrong(f"--launcher must be one of {wanted}, not {words.launcher!r}", "--launcher")


def _several_launches(name: str) -> Problem:
    about = "another machine" if name == "--cloud" else "several configs, one after another"
    return _wrong(f"{name} trains on {about}: preflight reads one launch here", name)


def _wrong(message: str, where: str, fix: str = "") -> Problem:
    return Problem(message, where, fix, "PF111")


def split_fire(argv: Sequence[str], script: int) -> Reading[AxolotlWords]:
    """Split the module's words as Fire does: a file, and keys with either dash."""
    config: str | None = None
    config_index: int | None = None
    overrides: dict[str, Setting] = {}
    index = script + 1
    while index < len(argv):
        word = argv[index]
        if not word.startswith("--"):
            if config is None:
                config, config_index = word, index
            index += 1
            continue
        name, equals, attached = word.partition("=")
        place = Place("argv", "", name, index=index)
        key = name[2:].replace("-", "_").replace("__", ".")
        index += 1
        text: str | None = attached if equals else None
        if not equals and index < len(argv) and not argv[index].startswith("--"):
            text = argv[index]
            index += 1
        if key == "config" and text is not None:
            config, config_index = text, None
        elif text is not None:
            overrides[key] = Setting(inferred(text), place)
        else:
            is_off = key.startswith("no") and key[2:] in axolotl_table()["keys"]
            overrides[key[2:] if is_off else key] = Setting(not is_off, place)
    words = AxolotlWords(script, config, config_index, overrides=overrides)
    if config is not None:
        return Reading(words)
    usage = f"-m {argv[script]} config.yaml"
    return Reading(words, (_wrong("the command names no config", argv[script], usage),))


def inferred(text: str) -> Any:
    """Return a word of the command line as axolotl infers its type."""
    switch = AXOLOTL_OPTION.read(text)
    if switch is not None:
        return switch
    if text.lower() in ("null", "none", "~"):
        return None
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text
