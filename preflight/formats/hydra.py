"""What Hydra composes: a configuration, the files that its defaults name, and the words of a command line on top.

Source: hydra/core/override_parser, hydra/_internal/defaults_list.py and config_loader_impl.py of Hydra 1.3, omegaconf 2.3:
`key=value` sets, `+key=value` adds, `++key=value` does either, `~key` takes away, a later word wins; a word whose key is a
group of the defaults chooses a file. A file stands under the name of its group unless its first lines say `@package`, and
its own keys come on top of its defaults unless `_self_` stands elsewhere among them.
`tests/formats/ask_hydra.py` asks Hydra itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from preflight.errors import BadInput
from preflight.formats.document import Document
from preflight.formats.load import read_document
from preflight.launch import LaunchCommand
from preflight.lazy_pattern import lazy_pattern
from preflight.setting import Place, Setting
from preflight.values import dataclass

OPTIONS = {
    "--config-path": "path", "-cp": "path", "--config-dir": "dir", "-cd": "dir", "--config-name": "name", "-cn": "name",
}  # fmt: skip
SWITCHES = frozenset({"-m", "--multirun", "--run", "-r"})
_PACKAGE = lazy_pattern(r"^#\s*@package\s+(\S+)", re.MULTILINE)
_REFERENCE = lazy_pattern(r"\$\{([^${}]*)\}")
_MOST_FILES = 64
_MOST_REFERENCES = 32


class NotComposed(Exception):
    """A file that is not here, or a form of the defaults that is not read."""


class Unresolved:
    """A value that only running tells: what a resolver of the program's own gives, or what is missing (`???`)."""


UNRESOLVED = Unresolved()


@dataclass(frozen=True)
class Words:
    """The words behind a program of Hydra's."""

    options: Mapping[str, str]
    """`path`, `dir` and `name` of the configuration, where they are said."""
    given: tuple[tuple[str, str, Setting], ...]
    """Sign ("", "+", "++" or "~"), dotted key and value of each override, in order."""
    unread: tuple[str, ...]
    """Words that are neither."""


def read_words(argv: Sequence[str], first: int) -> Words:
    """Return what the words from an index on say."""
    options: dict[str, str] = {}
    given: list[tuple[str, str, Setting]] = []
    unread: list[str] = []
    index = first
    while index < len(argv):
        word, at = argv[index], index
        index += 1
        flag, equals, text = word.partition("=")
        if flag in OPTIONS:
            if not equals and index < len(argv):
                text, index = argv[index], index + 1
            options[OPTIONS[flag]] = text
        elif word.startswith("~") or equals:
            name = flag.lstrip("+~")
            sign = flag[: len(flag) - len(name)]
            given.append((sign, name, Setting(value_of(text), Place("argv", "", name, index=at))))
        elif word not in SWITCHES:
            unread.append(word)
    return Words(options, tuple(given), tuple(unread))


def value_of(text: str) -> Any:
    """Return the value behind `key=`, as Hydra reads plain ones."""
    if text.startswith("{"):
        text = re.sub(r"(?<=\w):(?=[^\s/])", ": ", text)  # {rank:8}
    import yaml  # eighteen modules, for words of a command line alone

    try:
        return yaml.safe_load(text) if text else None
    except yaml.YAMLError:
        return text


def composed(command: LaunchCommand, folder: str, name: str, words: Words) -> dict[str, Setting]:
    """Return dotted key -> value of a configuration in a folder, or of none at all where its name is empty.

    Raises NotComposed where a part of it is not here; a value that is not known is UNRESOLVED.
    """
    composer = _Composer(command, folder, words)
    if name:
        composer.add(os.path.splitext(name)[0], "", "")
    composer.override()
    return {key: composer.resolved(key) for key in composer.values}


def resolved_file(command: LaunchCommand, path: str) -> dict[str, Setting]:
    """Return dotted key -> value of one file, with what its values refer to put in, as OmegaConf loads it."""
    composer = _Composer(command, os.path.dirname(path), Words({}, (), ()))
    composer.add_own(path, _document(command, path), "", ())
    return {key: composer.resolved(key) for key in composer.values}


def _document(command: LaunchCommand, path: str) -> Document:
    if not command.exists(path):
        raise NotComposed(path)
    try:
        return read_document(command, path, "yaml", stated_at=path)
    except BadInput as error:
        raise NotComposed(path) from error


class _Composer:
    def __init__(self, command: LaunchCommand, folder: str, words: Words) -> None:
        self.command, self.folder, self.words = command, folder, words
        self.values: dict[str, Setting] = {}
        self.groups: dict[str, str] = {}
        """Group of the defaults -> the package that its file stands under."""
        self.chosen = {key: s.value for sign, key, s in words.given if sign in ("", "++")}
        """Group -> what a word chooses of it, else what the outermost file does that overrides one before."""
        self.num_files = 0

    def add(self, path: str, package: str, group: str) -> None:
        """Add a file below the folder, after or before what its own defaults name."""
        self.num_files += 1
        file = os.path.join(self.folder, f"{path}.yaml")
        if self.num_files > _MOST_FILES:
            raise NotComposed(file)
        document = _document(self.command, file)
        header = _PACKAGE.search(self.command.read_text(file)[:500])
        if header is not None:
            package = {"_global_": "", "_group_": group.replace("/", ".")}.get(header[1], header[1])
        entries = document.value.get("defaults") or []
        if not isinstance(entries, list):
            raise NotComposed(file)
        for override in filter(None, map(_overridden, entries)):
            self.chosen.setdefault(*override)
        if "_self_" not in entries:
            entries = [*entries, "_self_"]
        for entry in entries:
            if entry == "_self_":
                self.add_own(file, document, package, ("defaults",))
            elif _overridden(entry) is None:
                self._follow(entry, os.path.dirname(path), package)

    def add_own(self, file: str, document: Document, package: str, but: Sequence[str]) -> None:
        """Set what a file says itself, below a package, but for some keys."""
        own = {key: value for key, value in document.value.items() if key not in but}
        for keys, value in _leaves(own, ()):
            mark = document.mark(keys)
            place = Place("script", file, ".".join(keys), None if mark is None else mark.line)
            self._set(".".join((*filter(None, [package]), *keys)), Setting(value, place))

    def _follow(self, entry: object, folder: str, package: str) -> None:
        """Add what one entry of the defaults names."""
        if isinstance(entry, str):
            self.add(_joined(folder, entry.partition("@")[0]), package, folder)
            return
        if not isinstance(entry, dict) or len(entry) != 1:
            raise NotComposed(str(entry))
        ((key, choice),) = entry.items()
        name, at, below = str(key).removeprefix("optional ").partition("@")
        is_optional = str(key).startswith("optional ")
        group = _joined(folder, name)
        if group == "hydra" or group.startswith("hydra/"):
            return
        stands_under = ".".join(filter(None, (package, name.strip("/").replace("/", "."))))
        if at:
            stands_under = "" if below == "_global_" else ".".join(filter(None, (package, below)))
        self.groups[group] = stands_under
        choice = self.chosen.get(group, choice)
        for each in choice if isinstance(choice, list) else [choice]:
            if each is None:
                continue
            path = _joined(group, str(each))
            if not is_optional or self.command.exists(os.path.join(self.folder, f"{path}.yaml")):
                self.add(path, stands_under, group)

    def override(self) -> None:
        """Put the command line's words on top."""
        for sign, key, setting in self.words.given:
            path = os.path.join(self.folder, key, f"{setting.value}.yaml")
            if key in self.groups and sign != "~":
                continue
            if sign == "+" and isinstance(setting.value, str) and self.command.exists(path):
                self.add(_joined(key, setting.value), key.replace("/", "."), key)
            elif sign == "~":
                self._remove(key)
                above = key.rpartition(".")[0]
                if above and not any(each.startswith(f"{above}.") for each in self.values):
                    self.values[above] = Setting({}, setting.place)
            elif isinstance(setting.value, dict):
                for keys, value in _leaves(setting.value, (key,)):
                    self._set(".".join(keys), Setting(value, setting.place))
            else:
                self._set(key, setting)

    def _set(self, key: str, setting: Setting) -> None:
        parts = key.split(".")
        for above in range(1, len(parts)):
            self.values.pop(".".join(parts[:above]), None)
        self._remove(key)
        self.values[key] = setting

    def _remove(self, key: str) -> None:
        for name in [each for each in self.values if each == key or each.startswith(f"{key}.")]:
            del self.values[name]

    def resolved(self, key: str) -> Setting:
        """Return a value with what it refers to put in."""
        setting = self.values[key]
        value = self._filled(setting.value, key, 0)
        return Setting(value, setting.place)

    def _filled(self, value: object, key: str, depth: int) -> Any:
        if value == "???" or depth > _MOST_REFERENCES:
            return UNRESOLVED
        if isinstance(value, list):
            items = [self._filled(each, key, depth + 1) for each in value]
            return UNRESOLVED if UNRESOLVED in items else items
        while isinstance(value, str) and (found := _REFERENCE.search(value)):
            held = self._referred(found[1], key, depth + 1)
            if held is UNRESOLVED or found[0] == value:
                return held
            value = value[: found.start()] + str(held) + value[found.end() :]
            depth += 1
            if depth > _MOST_REFERENCES:
                return UNRESOLVED
        return UNRESOLVED if isinstance(value, str) and "${" in value else value

    def _referred(self, name: str, key: str, depth: int) -> Any:
        if name.startswith("oc.env:"):
            variable, comma, default = name[7:].partition(",")
            if variable in self.command.env:
                return self.command.env[variable]
            return value_of(default) if comma else UNRESOLVED
        if name.startswith("."):
            above = key.split(".")
            dots = len(name) - len(name.lstrip("."))
            name = ".".join((*above[: len(above) - dots], name.lstrip(".")))
        setting = self.values.get(name)
        return UNRESOLVED if setting is None else self._filled(setting.value, name, depth)


def _overridden(entry: object) -> tuple[str, Any] | None:
    """Return what `override group: choice` says of an entry before it; None for any other."""
    if not isinstance(entry, dict) or len(entry) != 1:
        return None
    ((key, choice),) = entry.items()
    is_override = str(key).startswith("override ")
    return (str(key).removeprefix("override ").lstrip("/"), choice) if is_override else None


def _joined(folder: str, name: str) -> str:
    return name.lstrip("/") if name.startswith("/") or not folder else f"{folder}/{name}"


def _leaves(
    values: Mapping[Any, Any], above: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in values.items():
        keys = (*above, str(key))
        if isinstance(value, dict) and value:
            yield from _leaves(value, keys)
        else:
            yield keys, value
