"""The words behind LLaMA-Factory's training command: a config file with `key=value` behind it, or flags.

Source: read_args in hparams/parser.py of LLaMA-Factory 0.9.5 (OmegaConf.from_cli, HfArgumentParser).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from preflight.errors import Problem
from preflight.formats.document import Document
from preflight.formats.load import read_document
from preflight.launch import LaunchCommand
from preflight.launchers.framework_keys import settings_of
from preflight.launchers.llamafactory.keys import llamafactory_arguments
from preflight.lazy_pattern import lazy_pattern
from preflight.reading import Problems, Reading
from preflight.setting import Place, Setting
from preflight.trainers.argv import ParserRules, parse_argv
from preflight.values import dataclass

FLOAT = lazy_pattern(r"[-+]?(\d[\d_]*\.?\d*|\.\d+)[eE][-+]?\d+$")
"""`1e-5`, a number to OmegaConf and text to plain YAML."""


@dataclass(frozen=True)
class LlamaFactoryWords:
    """What the words say."""

    given: Mapping[str, Setting]
    overrides: Mapping[str, int]
    """Argument -> argv index of the word that beats the file."""
    overridden: Mapping[str, tuple[Place, ...]]
    document: Document | None = None
    file_index: int | None = None


def read_words(command: LaunchCommand, first: int) -> Reading[LlamaFactoryWords]:
    """Return the arguments that start at an argv index."""
    words = command.argv[first:]
    if words and words[0].endswith((".yaml", ".yml", ".json")):
        kind = "json" if words[0].endswith(".json") else "yaml"
        document = read_document(command, words[0], kind, stated_at=words[0])
        return _with_overrides(command, document, first)
    rules = ParserRules(
        is_exact=True
    )  # what it does not know the keys refuse, unless a copy of it does
    indexed = list(enumerate(words, first))
    parsed = parse_argv(indexed, llamafactory_arguments(), rules)
    problems = Problems(parsed.problems)
    for _, word in parsed.positionals:
        message = f"LLaMA-Factory's parser does not know the word {word!r}"
        fix = "a config is named .yaml, .yml or .json and comes first"
        problems.append(Problem(message, word, fix, "PF141"))
    indices = {name: s.place.index for name, s in parsed.known.items() if s.place.index is not None}
    found = LlamaFactoryWords({**parsed.known, **parsed.unknown}, indices, parsed.earlier)
    return Reading(found, tuple(problems))


def _with_overrides(
    command: LaunchCommand, document: Document, file_index: int
) -> Reading[LlamaFactoryWords]:
    """Return a config's arguments with the `key=value` words behind it over them."""
    given = _settings(document)
    overrides: dict[str, int] = {}
    overridden: dict[str, tuple[Place, ...]] = {}
    problems = Problems(document.problems)
    for index in range(file_index + 1, len(command.argv)):
        word = command.argv[index]
        name, equals, text = word.partition("=")
        if not equals or word.startswith("-"):
            problems.append(
                Problem(
                    f"behind a config LLaMA-Factory takes key=value, not {word!r}",
                    word,
                    f"{name.lstrip('-').replace('-', '_')}={text or 'VALUE'}",
                    "PF141",
                )
            )
            continue
        if name in given:
            overridden[name] = (*overridden.get(name, ()), given[name].place)
        given[name] = Setting(_value(text), Place("argv", "", name, index=index))
        overrides[name] = index
    found = LlamaFactoryWords(given, overrides, overridden, document, file_index)
    return Reading(found, tuple(problems))


def _settings(document: Document) -> dict[str, Setting]:
    return {
        name: Setting(_as_omegaconf(setting.value), setting.place)
        for name, setting in settings_of(document).items()
    }


def _as_omegaconf(value: Any) -> Any:
    return float(value) if isinstance(value, str) and FLOAT.match(value) else value


def _value(text: str) -> Any:
    """Return the value behind `key=`, as YAML reads it."""
    try:
        return _as_omegaconf(yaml.safe_load(text)) if text else None
    except yaml.YAMLError:
        return text
