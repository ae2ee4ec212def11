"""The words behind `oumi train`: a config by `-c`, and dotted keys that beat it.

Source: train in cli/train.py, parse_extra_cli_args and resolve_and_fetch_config in cli/cli_utils.py of oumi 0.9.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from preflight.errors import Problem
from preflight.formats.document import Document
from preflight.formats.load import read_document
from preflight.launch import LaunchCommand
from preflight.launchers.automodel.words import leaves
from preflight.reading import Problems, Reading
from preflight.setting import Place, Setting
from preflight.values import dataclass

FILE_FLAGS = ("-c", "--config")
FETCHED = "oumi://"
"""In front of a config that oumi downloads from its own repository."""
OTHER_OPTIONS = ("-log", "--log-level")
"""Options with a value that say nothing of the training."""
SWITCHES = {
    "--verbose": None, "-v": None, "--list": None, "--model.trust_remote_code": None, "--no-model.trust_remote_code": None,
}  # fmt: skip
"""Options without a value."""
USAGE = "oumi train -c CONFIG.yaml --training.per_device_train_batch_size 4"


@dataclass(frozen=True)
class OumiWords:
    """What a command says: every leaf of its config by its dotted key, as the command line leaves it."""

    given: Mapping[str, Setting]
    document: Document | None
    """None where the config is not here."""
    config: str
    """As it is spelled; empty where no word names one."""
    config_index: int | None
    overridden: Mapping[str, tuple[Place, ...]]


def read_words(command: LaunchCommand, first: int) -> Reading[OumiWords]:
    """Return the words from an argv index on; raise BadInput where the config is here and cannot be read."""
    problems = Problems()
    said: dict[str, Setting] = {}
    config, config_index = "", None
    words = enumerate(command.argv[first:], first)
    for index, word in words:
        flag, is_joined, text = word.partition("=")
        if flag in SWITCHES:
            continue
        at = index
        if not is_joined:
            at, text = next(words, (index, ""))
        if flag in FILE_FLAGS:
            config, config_index = text, at
        elif not flag.startswith("--") and flag not in OTHER_OPTIONS:
            problems.append(Problem(f"oumi stops at the word {word!r}", word, USAGE, "PF141"))
        elif flag not in OTHER_OPTIONS:
            said[flag[2:]] = Setting(_value(text), Place("argv", "", flag, index=index))
    document = problems.take(_document(command, config))
    given = {} if document is None else dict(leaves(document))
    overridden = {key: (given[key].place,) for key in said if key in given}
    found = OumiWords({**given, **said}, document, config, config_index, overridden)
    return Reading(found, tuple(problems))


def _document(command: LaunchCommand, config: str) -> Reading[Document | None]:
    """Return the config; of one that oumi downloads the working copy's, where there is one."""
    path = config.removeprefix(FETCHED)
    if not config or (path != config and not command.exists(path)):
        return Reading(None, ())
    if not config.endswith((".yaml", ".yml")) and not command.exists(config):
        return Reading(None, ())  # the short name of a recipe
    said: tuple[Problem, ...] = ()
    if path != config:
        message = f"oumi downloads {config}; the working copy's {path} is read in its place"
        said = (Problem(message, config, f"-c {path} trains with it", "PF143", "info"),)
    document = read_document(command, path, "yaml", stated_at=config)
    return Reading(document, (*said, *document.problems))


def _value(text: str) -> Any:
    """Return the value of a word, as YAML reads it."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text
