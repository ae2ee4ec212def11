"""The words behind a trainer of verl: Hydra's overrides, and a config of one's own that they come on top of.

Where the repository has a copy of verl, its own configuration says what nobody else does: a fork keeps the number of a
release, not its defaults.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from preflight.errors import Problem
from preflight.formats import hydra
from preflight.formats.document import Document
from preflight.formats.load import read_document
from preflight.launch import LaunchCommand
from preflight.launchers.framework_keys import nested_settings, settings_of
from preflight.launchers.own_copy import copy_of
from preflight.launchers.verl.own_main import OwnMain
from preflight.reading import Reading
from preflight.setting import Setting
from preflight.values import dataclass


@dataclass(frozen=True)
class VerlWords:
    """What the words say."""

    given: Mapping[str, Setting]
    """Dotted key -> value."""
    config_name: str
    """The configuration that is named in place of the trainer's own; empty without one."""
    document: Document | None

    @property
    def has_only(self) -> frozenset[str] | None:
        """Return the keys of a configuration that is read whole, or is not here; None for verl's own, which has more."""
        if self.document is None:
            return frozenset(self.given) if self.config_name else None
        return None if "defaults" in self.document.value else frozenset(self.given)


def read_words(
    command: LaunchCommand, first: int, own_name: str, main: OwnMain | None = None
) -> Reading[VerlWords]:
    """Return what the words from an argv index on say, of a trainer whose own configuration has a name; that of a `main` of
    somebody's own comes on top of it."""
    words = hydra.read_words(command.argv, first)
    options = words.options
    problems = [
        Problem(f"Hydra takes key=value, not {word!r}", word, f"{word}=VALUE", "PF141", "warning")
        for word in words.unread
        if not word.startswith("-")
    ]
    said: dict[str, Setting] = {}
    for sign, name, setting in words.given:
        if sign == "~":
            said.pop(name, None)
        else:
            said[name] = setting
    if main is None:
        name, below = options.get("name", ""), None
        document = _document(command, options) or _of_copy(command, options, own_name)
    else:
        name, document = main.config_name, main.document
        below = _of_copy(command, {}, own_name)
    given = {
        key: setting
        for each in (below, document)
        if each is not None
        for key, setting in flat(settings_of(each), each)
    }
    return Reading(VerlWords(_referred({**given, **said}), name, document), tuple(problems))


def _referred(given: Mapping[str, Setting]) -> dict[str, Setting]:
    """Return settings with the values of other keys where a file refers to them, `${actor_rollout_ref.rollout.n}`; what else
    a file leaves to its program stays as it is written."""
    found = dict(given)
    for key, setting in given.items():
        names, value = {key}, setting.value
        while isinstance(value, str) and setting.place.kind == "yaml":
            name = value.removeprefix("${").removesuffix("}")
            if value != f"${{{name}}}" or name not in given or name in names:
                break
            names.add(name)
            value = given[name].value
        found[key] = setting if value is setting.value else Setting(value, setting.place)
    return found


def _document(command: LaunchCommand, options: Mapping[str, str]) -> Document | None:
    """Return the file that path and name stand for; None where it is verl's own, or not here."""
    name = options.get("name", "")
    folder = options.get("path", options.get("dir"))
    if not name or folder is None:
        return None
    path = os.path.join(folder, name if name.endswith(".yaml") else f"{name}.yaml")
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
