"""A torchtune config as its recipe sees it: the file, the words of the command line over it, `${...}` filled in.

Source: TuneRecipeArgumentParser and _merge_yaml_and_cli_args of torchtune 0.6.1 (torchtune/config/_parse.py,
_utils.py:92), which merge with OmegaConf: sections are joined, lists and values replaced.
tests/launchers/test_torchtune_config.py holds what OmegaConf 2.3.0 made of the same words (2026-11-25).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any

import yaml

from preflight.errors import Problem
from preflight.formats.document import Document, value_at
from preflight.launch import LaunchCommand
from preflight.lazy_pattern import lazy_pattern
from preflight.reading import Problems, Reading
from preflight.setting import Place, Setting
from preflight.values import dataclass

COMPONENT = "_component_"
INTERPOLATION = lazy_pattern(r"\$\{([^${}]+)\}")
MOST_ROUNDS = 20
"""Interpolations inside interpolations; more are a circle."""


@dataclass(frozen=True)
class TuneRecipe:
    """What runs and what it was given, for the writer."""

    name: str
    values: Mapping[str, Any]
    """The config, with the words of the command over it."""


@dataclass(frozen=True)
class TuneConfig:
    """Values of one config."""

    values: Mapping[str, Any]
    document: Document | None
    """None for a built-in config that is not installed here."""
    origin: str
    """What a value of a built-in config comes from."""
    overrides: Mapping[str, int] = field(default_factory=dict)
    """Dotted key -> argv index of the last word that gives it."""

    def get(self, key: str) -> Any:
        """Return the value below a dotted key, None where there is none."""
        return value_at(self.values, key)

    def place(self, key: str) -> Place:
        """Return where a dotted key, or the nearest section above it, is written."""
        parts = key.split(".")
        for end in range(len(parts), 0, -1):
            shorter = ".".join(parts[:end])
            if shorter in self.overrides:
                return Place("argv", "", shorter, index=self.overrides[shorter])
            if self.document is not None and self.document.mark(tuple(parts[:end])) is not None:
                line = self.document.line(tuple(parts[:end]))
                return Place("yaml", self.document.path, shorter, line)
        if self.document is not None:
            return Place("yaml", self.document.path, key)
        return Place("default", "", self.origin)

    def setting(self, key: str) -> Setting | None:
        """Return a value with its place; None where it is missing or null."""
        value = self.get(key)
        return None if value is None else Setting(value, self.place(key))

    def settings(self) -> dict[str, Setting]:
        """Return every value that is no section under its dotted key, and every section too."""
        found: dict[str, Setting] = {}

        def collect(values: Mapping[Any, Any], prefix: str) -> None:
            for name, value in values.items():
                key = f"{prefix}{name}"
                found[key] = Setting(value, self.place(key))
                if isinstance(value, Mapping):
                    collect(value, f"{key}.")

        collect(self.values, "")
        return found


def with_words(config: TuneConfig, words: Iterable[tuple[int, str]]) -> Reading[TuneConfig]:
    """Return the config with the words behind the recipe: `key=value` over the file, `~key` out of it."""
    values = config.values
    given: list[tuple[int, str, Any]] = []
    problems = Problems()
    for index, word in words:
        if word.startswith("--"):
            problems.append(
                _refused(f"{word} is no flag of a recipe", word, "--config, or key=value overrides")
            )
        elif word.startswith("~"):
            key = word[1:].partition("=")[0]
            problem = _not_removable(config.document, values, key, word)
            if problem is not None:
                problems.append(problem)
            elif _has(values, key.split(".")):
                values = _without(values, key.split("."))
        elif word.count("=") != 1:
            problems.append(_refused(f"{word!r} is not key=value", word, "batch_size=1"))
        else:
            key, _, text = word.partition("=")
            # Tested against the file alone: an override never makes a component of a plain key.
            if isinstance(values.get(key), Mapping) and COMPONENT in values[key]:
                key = f"{key}.{COMPONENT}"
            given.append((index, key, _value(text)))
    for _, key, value in given:
        values = _with(values, key.split("."), value)
    overrides = {key: index for index, key, _ in given}
    return Reading(replace(config, values=values, overrides=overrides), tuple(problems))


def resolved(config: TuneConfig, command: LaunchCommand) -> TuneConfig:
    """Return the config with `${...}` filled in; what points to nothing stays as it is written."""
    return replace(config, values=_resolved(config.values, config.values, command, ""))


def _has(values: Any, parts: Sequence[str]) -> bool:
    return not parts or (
        isinstance(values, Mapping) and parts[0] in values and _has(values[parts[0]], parts[1:])
    )


def _not_removable(
    document: Document | None, values: Mapping[str, Any], key: str, word: str
) -> Problem | None:
    if not _has(values, key.split(".")):
        # The table of a built-in config leaves out what nothing is read from.
        missing = None if document is None else f"there is no {key} in {document.path}"
        return None if missing is None else _refused(missing, word, "drop it")
    value = value_at(values, key)
    if isinstance(value, Mapping) and COMPONENT in value:
        what = f"{key} is a component, which the command line cannot remove"
        return _refused(what, word, f"{key}=another.component")
    return None


def _without(values: Mapping[str, Any], parts: Sequence[str]) -> dict[str, Any]:
    """Return a copy without a key, and without sections that are left empty (_remove_key_by_dotpath)."""
    name, *rest = parts
    inner = _without(values[name], rest) if rest else {}
    others = {key: value for key, value in values.items() if key != name}
    return {**values, name: inner} if inner else others


def _refused(message: str, word: str, fix: str) -> Problem:
    return Problem(message, word, fix, "PF111")


def _value(text: str) -> Any:
    """Return an override's value as OmegaConf reads it: YAML, and None for null."""
    if text == "None":
        return None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _with(values: Mapping[str, Any], parts: Sequence[str], value: Any) -> dict[str, Any]:
    """Return a copy with a value at a path: sections are joined, anything else is replaced."""
    name, *rest = parts
    old = values.get(name)
    section = old if isinstance(old, Mapping) else {}
    if rest:
        return {**values, name: _with(section, rest, value)}
    if isinstance(old, Mapping) and isinstance(value, Mapping):
        for key, inner in value.items():
            section = _with(section, [str(key)], inner)
        return {**values, name: section}
    return {**values, name: value}


def _resolved(value: Any, root: Mapping[str, Any], command: LaunchCommand, at: str) -> Any:
    if isinstance(value, Mapping):
        return {k: _resolved(v, root, command, f"{at}.{k}") for k, v in value.items()}
    if isinstance(value, list):
        return [_resolved(item, root, command, f"{at}.{i}") for i, item in enumerate(value)]
    for _ in range(MOST_ROUNDS):
        if not isinstance(value, str):
            break
        found = INTERPOLATION.search(value)
        if found is None:
            break
        inner = _looked_up(found[1].strip(), root, command, at.strip("."))
        if inner is None:
            break
        whole = found[0] == value
        value = inner if whole else value[: found.start()] + str(inner) + value[found.end() :]
    return value


def _looked_up(name: str, root: Mapping[str, Any], command: LaunchCommand, at: str) -> Any:
    if name.startswith("oc.env:"):
        variable, _, default = name[len("oc.env:") :].partition(",")
        text = command.env.get(variable.strip())
        return text if text is not None else (_value(default) if default else None)
    if name.startswith("."):
        dots = len(name) - len(name.lstrip("."))
        parents = at.split(".")[:-dots] if at else []
        name = ".".join([*parents, name.lstrip(".")])
    return value_at(root, name)
