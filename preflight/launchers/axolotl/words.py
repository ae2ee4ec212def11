"""The words of an axolotl training command: its config, the keys that beat it, and what goes to the launcher.

Source: train in cli/main.py, add_options_from_config_options in cli/utils/args.py, _coerce_value and load_cfg
in cli/config.py of axolotl 0.19.0, and Fire, which reads the words of the module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any

from preflight.bool_words import AXOLOTL_OPTION
from preflight.errors import Problem
from preflight.launchers.axolotl.keys import Option, axolotl_table, option_of
from preflight.setting import Place, Setting
from preflight.values import dataclass

LAUNCHERS = ("accelerate", "torchrun", "python")
OWN_OPTIONS = ("--launcher", "--cloud", "--sweep")
USAGE = "axolotl train config.yaml [--key value] [-- launcher options]"


@dataclass
class AxolotlWords:
    """The words of the command: filled while they are split."""

    script_index: int
    config: str | None = None
    """The config's path."""
    config_index: int | None = None
    """Its argv index; None where the config is the attached value of a flag."""
    launcher: str = "accelerate"
    launcher_place: Place = field(default_factory=lambda: Place("argv", "", "axolotl", index=0))
    launcher_indices: list[int] = field(default_factory=list)
    """argv indices of the words that go to the launcher."""
    overrides: dict[str, Setting] = field(default_factory=dict)
    """Key (dotted below a section) -> value; beats the file."""


def split_cli(argv: Sequence[str], first: int, problems: list[Problem]) -> AxolotlWords:
    """Split the words behind `axolotl`: what its click command does not know goes to the launcher."""
    words = AxolotlWords(script_index=first)
    index = first + 1
    while index < len(argv):
        word = argv[index]
        name, equals, attached = word.partition("=")
        if word == "--":
            _take_rest(words, argv, index + 1)
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
                words.overrides[option.key] = Setting(inferred(attached), place)
            else:
                _take_own(words, name, attached, place, problems)
        elif option is not None:
            _take_switch(words, option, word, place, problems)
        elif word.startswith("-") or words.config is not None:
            words.launcher_indices.append(index)
        else:
            words.config, words.config_index = word, index
        index += 1
    if words.config is None and not problems:
        problems.append(_wrong("the command names no config", "axolotl train", USAGE))
    return words


def _take_rest(words: AxolotlWords, argv: Sequence[str], start: int) -> None:
    if words.config is None and start < len(argv):
        words.config, words.config_index = argv[start], start
        start += 1
    words.launcher_indices += range(start, len(argv))


def _take_own(
    words: AxolotlWords, name: str, value: str, place: Place, problems: list[Problem]
) -> None:
    if name == "--launcher":
        words.launcher, words.launcher_place = value, place
        if value not in LAUNCHERS:
            wanted = ", ".join(LAUNCHERS)
            problems.append(_wrong(f"--launcher must be one of {wanted}, not {value!r}", name))
    else:
        about = "another machine" if name == "--cloud" else "several configs, one after another"
        message = f"{name} trains on {about}: preflight reads one launch here"
        problems.append(_wrong(message, name))


def _take_switch(
    words: AxolotlWords, option: Option, word: str, place: Place, problems: list[Problem]
) -> None:
    if "=" in word:
        fix = f"--{option.key.replace('_', '-')} or --no-{option.key.replace('_', '-')}"
        problems.append(_wrong(f"{place.key} takes no value", place.key, fix))
    words.overrides[option.key] = Setting(not option.says_false, place)


def _wrong(message: str, where: str, fix: str = "") -> Problem:
    return Problem(message, where, fix, "PF111")


def split_fire(argv: Sequence[str], script: int, problems: list[Problem]) -> AxolotlWords:
    """Split the module's words as Fire does: a file, and keys with either dash."""
    words = AxolotlWords(script_index=script)
    index = script + 1
    while index < len(argv):
        word = argv[index]
        if not word.startswith("--"):
            if words.config is None:
                words.config, words.config_index = word, index
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
            words.config, words.config_index = text, None
        elif text is not None:
            words.overrides[key] = Setting(inferred(text), place)
        else:
            is_off = key.startswith("no") and key[2:] in axolotl_table()["keys"]
            words.overrides[key[2:] if is_off else key] = Setting(not is_off, place)
    if words.config is None:
        usage = f"-m {argv[script]} config.yaml"
        problems.append(_wrong("the command names no config", argv[script], usage))
    return words


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
