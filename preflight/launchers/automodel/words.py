"""The command line of NeMo Automodel: a YAML file, and dotted keys that beat it.

Source: cli/app.py, components/config/_arg_parser.py and components/config/loader.py of nemo-automodel 0.7.0; before
0.4 the file stood behind `-c` and two words, `automodel finetune llm -c FILE`, which its recipes still take by hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from preflight.errors import Problem
from preflight.formats.document import Document
from preflight.formats.load import read_document
from preflight.launch import LaunchCommand
from preflight.launchers.automodel import ENDINGS
from preflight.launchers.literal_words import literal_of
from preflight.reading import Problems, Reading
from preflight.setting import Place, Setting
from preflight.values import dataclass

FILE_FLAGS = ("-c", "--config")
RANKS = ("nproc-per-node", "nproc_per_node")
USAGE = "automodel CONFIG.yaml --nproc-per-node 8"


@dataclass(frozen=True)
class AutomodelWords:
    """What a command says: every leaf of its file by its dotted key, as the command line leaves it."""

    given: Mapping[str, Setting]
    document: Document
    file_index: int


def read_words(command: LaunchCommand, first: int) -> Reading[AutomodelWords]:
    """Return the words from an argv index on; raise BadInput where the file cannot be read."""
    problems = Problems()
    said: dict[str, Setting] = {}
    file_index = first
    words = enumerate(command.argv[first:], first)
    for index, word in words:
        if word in FILE_FLAGS:
            file_index = next(words, (index, ""))[0]
        elif word.startswith("--"):
            key, is_joined, text = word[2:].partition("=")
            if not is_joined:
                after = command.argv[index + 1 : index + 2]
                has_value = bool(after) and not after[0].startswith("--")
                text = next(words)[1] if has_value else "True"
            said[key] = Setting(literal_of(text), Place("argv", "", f"--{key}", index=index))
        elif word.endswith(ENDINGS):
            file_index = index
    path = command.argv[file_index] if file_index < len(command.argv) else ""
    document = read_document(command, path, "yaml", stated_at=path)
    problems.extend(document.problems)
    given = dict(leaves(document))
    if not given:
        problems.append(Problem("the config is empty", path, USAGE, "PF141"))
    given.update(said)
    return Reading(AutomodelWords(given, document, file_index), tuple(problems))


def leaves(document: Document) -> Iterator[tuple[str, Setting]]:
    """Yield every value of a file that is no section, by its dotted key, with its line."""

    def walk(value: Any, keys: tuple[str, ...]) -> Iterator[tuple[str, Setting]]:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                yield from walk(inner, (*keys, str(key)))
        elif keys:
            name = ".".join(keys)
            yield name, Setting(value, Place("yaml", document.path, name, document.line(keys)))

    yield from walk(document.value, ())
