"""The words behind LLaMA-Factory's training command: a config file with `key=value` behind it, or flags.

Source: read_args in hparams/parser.py of LLaMA-Factory 0.9.5 (OmegaConf.from_cli, HfArgumentParser).
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from preflight.errors import Problem
from preflight.formats.document import Document
from preflight.formats.load import read_document
from preflight.launch import LaunchCommand
from preflight.launchers.framework_keys import settings_of
from preflight.launchers.llamafactory.keys import llamafactory_arguments
from preflight.setting import Place, Setting
from preflight.trainers.argv import ParserRules, parse_argv
from preflight.values import dataclass

FLOAT = re.compile(r"[-+]?(\d[\d_]*\.?\d*|\.\d+)[eE][-+]?\d+$")
"""`1e-5`, a number to OmegaConf and text to plain YAML."""


@dataclass
class LlamaFactoryWords:
    """What the words say."""

    given: dict[str, Setting]
    overrides: dict[str, int]
    """Argument -> argv index of the word that beats the file."""
    overridden: dict[str, tuple[Place, ...]]
    document: Document | None = None
    file_index: int | None = None


def read_words(command: LaunchCommand, first: int, problems: list[Problem]) -> LlamaFactoryWords:
    """Return the arguments that start at an argv index."""
    words = command.argv[first:]
    if words and words[0].endswith((".yaml", ".yml", ".json")):
        kind = "json" if words[0].endswith(".json") else "yaml"
        document = read_document(command, words[0], kind, stated_at=words[0])
        problems.extend(document.problems)
        found = LlamaFactoryWords(_settings(document), {}, {}, document, first)
        for index in range(first + 1, len(command.argv)):
            _override(found, command.argv[index], index, problems)
        return found
    rules = ParserRules(is_complete=True, is_exact=True)
    parsed = parse_argv(words, first, llamafactory_arguments(), rules)
    problems.extend(parsed.problems)
    for index, word in parsed.positionals:
        message = f"LLaMA-Factory's parser does not know the word {word!r}"
        fix = "a config is named .yaml, .yml or .json and comes first"
        problems.append(Problem(message, word, fix, "PF141"))
        del index
    indices = {name: s.place.index for name, s in parsed.known.items() if s.place.index is not None}
    earlier = {name: tuple(places) for name, places in parsed.earlier.items()}
    return LlamaFactoryWords({**parsed.known, **parsed.unknown}, indices, earlier)


def _settings(document: Document) -> dict[str, Setting]:
    return {
        name: Setting(_as_omegaconf(setting.value), setting.place)
        for name, setting in settings_of(document).items()
    }


def _as_omegaconf(value: Any) -> Any:
    return float(value) if isinstance(value, str) and FLOAT.match(value) else value


def _override(found: LlamaFactoryWords, word: str, index: int, problems: list[Problem]) -> None:
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
        return
    try:
        value = _as_omegaconf(yaml.safe_load(text)) if text else None
    except yaml.YAMLError:
        value = text
    if name in found.given:
        found.overridden[name] = (*found.overridden.get(name, ()), found.given[name].place)
    found.given[name] = Setting(value, Place("argv", "", name, index=index))
    found.overrides[name] = index
