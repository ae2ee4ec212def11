"""The words behind a trainer of verl: Hydra's overrides, and a config of one's own that they come on top of.

Source: hydra/core/override_parser of Hydra 1.3: `key=value`, `+key=value` for a new key, `++key=value` for either and
`~key` to take one away; a later one wins. `--config-path` and `--config-name` name the file. Where the repository has a
copy of verl, its own configuration says what nobody else does: a fork keeps the number of a release, not its defaults.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from preflight.errors import Problem
from preflight.formats.document import Document
from preflight.formats.load import read_document
from preflight.launch import LaunchCommand
from preflight.launchers.framework_keys import nested_settings, settings_of
from preflight.launchers.own_copy import copy_of
from preflight.reading import Problems, Reading
from preflight.setting import Place, Setting
from preflight.values import dataclass

OPTIONS = {
    "--config-path": "path", "-cp": "path", "--config-dir": "path", "-cd": "path", "--config-name": "name", "-cn": "name",
}  # fmt: skip


@dataclass(frozen=True)
class VerlWords:
    """What the words say."""

    given: Mapping[str, Setting]
    """Dotted key -> value."""
    config_name: str
    """The configuration that is named in place of the trainer's own; empty without one."""
    document: Document | None


def read_words(command: LaunchCommand, first: int, own_name: str) -> Reading[VerlWords]:
    """Return what the words from an argv index on say, of a trainer whose own configuration has a name."""
    problems = Problems()
    options: dict[str, str] = {}
    words: dict[str, Setting] = {}
    index = first
    while index < len(command.argv):
        word, at = command.argv[index], index
        index += 1
        flag, equals, text = word.partition("=")
        if flag in OPTIONS:
            if not equals and index < len(command.argv):
                text, index = command.argv[index], index + 1
            options[OPTIONS[flag]] = text
        elif word.startswith("~"):
            words.pop(flag.lstrip("~"), None)
        elif equals:
            name = flag.lstrip("+")
            words[name] = Setting(_value(text), Place("argv", "", name, index=at))
        elif not word.startswith("-"):
            message = f"Hydra takes key=value, not {word!r}"
            problems.append(Problem(message, word, f"{word}=VALUE", "PF141", "warning"))
    document = _document(command, options) or _of_copy(command, options, own_name)
    given = {} if document is None else dict(flat(settings_of(document), document))
    name = options.get("name", "")
    return Reading(VerlWords({**given, **words}, name, document), tuple(problems))


def _document(command: LaunchCommand, options: Mapping[str, str]) -> Document | None:
    """Return the file that path and name stand for; None where it is verl's own, or not here."""
    name = options.get("name", "")
    if not name or "path" not in options:
        return None
    path = os.path.join(options["path"], name if name.endswith(".yaml") else f"{name}.yaml")
    return read_document(command, path, "yaml", stated_at=path) if command.exists(path) else None


def _of_copy(command: LaunchCommand, options: Mapping[str, str], own_name: str) -> Document | None:
    """Return the configuration of a copy of verl in the repository; None where it is composed of several, or not here."""
    copy = copy_of(("verl",), command.cwd)
    if copy is None:
        return None
    name = options.get("name", own_name)
    name = name if name.endswith(".yaml") else f"{name}.yaml"
    path = os.path.join(copy, "trainer", options.get("path", "config"), name)
    path = os.path.relpath(path, command.cwd or ".")
    document = (
        read_document(command, path, "yaml", stated_at=path) if command.exists(path) else None
    )
    return None if document is None or "defaults" in document.value else document


def flat(
    settings: Mapping[str, Setting], document: Document, above: str = ""
) -> Iterator[tuple[str, Setting]]:
    """Yield dotted keys of a file's sections."""
    for key, setting in settings.items():
        name = f"{above}{key}"
        if isinstance(setting.value, Mapping) and setting.value:
            yield from flat(nested_settings(setting, document), document, f"{name}.")
        else:
            yield name, setting


def _value(text: str) -> Any:
    """Return the value behind `key=`, as Hydra reads plain ones."""
    try:
        return yaml.safe_load(text) if text else None
    except yaml.YAMLError:
        return text
