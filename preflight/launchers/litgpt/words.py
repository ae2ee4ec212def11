"""The words behind `litgpt finetune_lora` and its sisters, as settings: a checkpoint, options, and config files among them.

Source: CLI(PARSER_DATA) in __main__.py of litgpt 0.5.13 and jsonargparse 4.41: words are applied in their order, a
`--config` file too, so the later of two wins; an option may be cut short as long as one alone begins so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from preflight.errors import Problem
from preflight.formats.document import Document
from preflight.formats.load import read_document
from preflight.formats.missing import refuse_address
from preflight.launch import LaunchCommand
from preflight.launchers.framework_keys import nested_settings, settings_of
from preflight.launchers.litgpt.table import options_of
from preflight.near_names import nearest_fix
from preflight.reading import Problems, Reading
from preflight.setting import Place, Setting
from preflight.values import dataclass

SECTIONS = ("eval", "log", "train")
FREE = ("data", "model_config", "optimizer")
"""Arguments below which another class declares the keys."""
CONFIG = "config"


@dataclass(frozen=True)
class LitgptWords:
    """What one command says."""

    command: str
    """finetune_lora, finetune_full, pretrain; `finetune` is the first of them."""
    given: Mapping[str, Setting]
    """Option -> its value that counts; `train.micro_batch_size` for one of a section."""
    config: str | None
    """The last config file, as spelled."""

    def default(self, option: str) -> Any:
        """Return what holds where nobody says it."""
        return options_of(self.command).get(option)


def model_option(command: str) -> str:
    """Return the option that the first word gives."""
    return "model_name" if command == "pretrain" else "checkpoint_dir"


def read_words(command: LaunchCommand, first: int) -> Reading[LitgptWords]:
    """Return what the words from the subcommand's argv index on say."""
    name = command.argv[first]
    name = "finetune_lora" if name == "finetune" else name
    problems = Problems()
    given: dict[str, Setting] = {}
    config: str | None = None
    num_loose = 0
    index = first + 1
    while index < len(command.argv):
        word = command.argv[index]
        at, index = index, index + 1
        if not word.startswith("--"):
            num_loose += 1
            if num_loose > 1:
                problems.append(
                    _refused(f"litgpt {name} takes one word, and {word!r} is another", word)
                )
            else:
                option = model_option(name)
                given[option] = Setting(word, Place("argv", "", word, index=at))
            continue
        flag, equals, text = word.partition("=")
        found = problems.take(_option(name, flag))
        if not equals:
            if index >= len(command.argv) or command.argv[index].startswith("--"):
                problems.append(_refused(f"{flag} needs a value", flag))
                continue
            text, index = command.argv[index], index + 1
        if found == CONFIG:
            config = text
            given.update(problems.take(_file(command, text, flag, name)))
        elif found is not None:
            place = Place("argv", "", flag, index=at)
            given.update(problems.take(_value(command, name, found, text, place)))
    return Reading(LitgptWords(name, given, config), tuple(problems))


def _refused(message: str, where: str, fix: str = "") -> Problem:
    return Problem(message, where, fix, "PF141")


def _not_known(word: str, command: str, where: str, near: str) -> Problem:
    return Problem(f"litgpt {command} has no {word}", where, near, "PF141", refused_by="litgpt")


def _option(command: str, flag: str) -> Reading[str | None]:
    """Return the option that a flag names, in full or cut short; None for one that litgpt stops at."""
    name, options = flag[2:], (*options_of(command), *SECTIONS, CONFIG)
    if name in options or name.partition(".")[0] in FREE:
        return Reading(name)
    matches = [option for option in options if option.startswith(name)]
    if len(matches) == 1:
        return Reading(matches[0])
    if matches:
        message = f"{flag} could be several options of litgpt {command}"
        shown = ", ".join(f"--{match}" for match in sorted(matches))
        return Reading(None, (_refused(message, flag, f"one of {shown}"),))
    near = nearest_fix(flag, tuple(f"--{option}" for option in options))
    return Reading(None, (_not_known(f"option {flag}", command, flag, near),))


def _file(
    command: LaunchCommand, path: str, stated_at: str, name: str
) -> Reading[Mapping[str, Setting]]:
    """Return the settings of a config file."""
    refuse_address(path)
    document = read_document(command, path, "yaml", stated_at=stated_at)
    problems = Problems(document.problems)
    found: dict[str, Setting] = {}
    for key, setting in settings_of(document).items():
        found.update(problems.take(_nested(name, key, setting, document)))
    return Reading(found, tuple(problems))


def _value(
    command: LaunchCommand, name: str, option: str, text: str, place: Place
) -> Reading[Mapping[str, Setting]]:
    """Return what one option of the command line says: a section takes a mapping, or a file with one."""
    if option in SECTIONS and command.exists(text):
        document = read_document(command, text, "yaml", stated_at=place.key)
        found = {f"{option}.{key}": value for key, value in settings_of(document).items()}
        return Reading(found, (*document.problems, *_unknown(name, found)))
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    return _nested(name, option, Setting(value, place), None)


def _nested(
    name: str, key: str, setting: Setting, document: Document | None
) -> Reading[Mapping[str, Setting]]:
    """Return a setting by its option, those of a section each by its own; what litgpt does not know is refused."""
    if key in SECTIONS and isinstance(setting.value, Mapping):
        inner = nested_settings(setting, document)
        found = {f"{key}.{inside}": value for inside, value in inner.items()}
    else:
        found = {key: setting}
    return Reading(found, tuple(_unknown(name, found)))


def _unknown(command: str, found: Mapping[str, Setting]) -> Iterator[Problem]:
    options = options_of(command)
    for key, setting in found.items():
        if key in options or key.partition(".")[0] in FREE:
            continue
        near = nearest_fix(key, tuple(options))
        yield _not_known(f"key {key}", command, setting.place.where, near)
