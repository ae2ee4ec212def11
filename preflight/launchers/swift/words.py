"""The words behind ms-swift's training command: a config file, flags, or a file with flags behind it.

Source: parse_yaml_args in cli/main.py of ms-swift 3.6 to 4.6: a first word named .json, .yaml or .yml becomes flags in
front of the others, and its `ENV` section variables that nobody set; a later flag wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.formats.document import Document
from preflight.formats.load import read_document
from preflight.launch import LaunchCommand
from preflight.launchers.framework_keys import settings_of
from preflight.launchers.swift.table import arguments_of
from preflight.reading import Problems, Reading
from preflight.scripts.arguments.trainer_tables import Argument, ArgumentTable
from preflight.scripts.arguments.trainer_values import NotConverted, Written, from_file
from preflight.setting import Place, Setting
from preflight.trainers.argv import ParserRules, parse_argv
from preflight.values import dataclass

FILES = (".json", ".yaml", ".yml")
VARIABLES = "ENV"


@dataclass(frozen=True)
class SwiftWords:
    """What the words say."""

    given: Mapping[str, Setting]
    unknown: frozenset[str]
    """Names among them that no release's command has."""
    overrides: Mapping[str, int]
    """Argument -> argv index of the word that beats the file."""
    overridden: Mapping[str, tuple[Place, ...]]
    document: Document | None
    file_index: int | None
    env: Mapping[str, str] | None
    """Variables of the file's section for them."""


def read_words(
    command: LaunchCommand, first: int, name: str, arguments: ArgumentTable | None = None
) -> Reading[SwiftWords]:
    """Return what the words from an argv index on say to a training command, which takes these arguments; without, those
    of every release from 3.0 on."""
    known = arguments if arguments is not None else arguments_of(name)
    problems = Problems()
    document, given, env = None, {}, None
    unknown: set[str] = set()
    start = first
    if first < len(command.argv) and command.argv[first].endswith(FILES):
        path = command.argv[first]
        document = read_document(
            command, path, "json" if path.endswith(".json") else "yaml", stated_at=path
        )
        problems.extend(document.problems)
        start = first + 1
        given = settings_of(document)
        section = given.pop(VARIABLES, None)
        if section is not None and isinstance(section.value, Mapping):
            env = {str(key): str(value) for key, value in section.value.items()}
        table = known.arguments
        for key, setting in given.items():
            if key in table:
                given[key] = problems.take(_of_file(table[key], setting))
            else:
                unknown.add(key)
    indexed = list(enumerate(command.argv[start:], start))
    parsed = parse_argv(indexed, known, ParserRules(is_exact=True))
    problems.extend(parsed.problems)
    unknown.update(parsed.unknown)
    overridden = dict(parsed.earlier)
    words = {**parsed.known, **parsed.unknown}
    for key in words.keys() & given.keys():
        overridden[key] = (*overridden.get(key, ()), given[key].place)
    indices = {key: s.place.index for key, s in words.items() if s.place.index is not None}
    found = SwiftWords(
        {**given, **words},
        frozenset(unknown),
        indices,
        overridden,
        document,
        first if document is not None else None,
        env,
    )
    return Reading(found, tuple(problems))


def _of_file(argument: Argument, setting: Setting) -> Reading[Setting]:
    """Return a file's value as the parser makes it of its text."""
    place = setting.place
    value: Any = setting.value
    if value is None:
        return Reading(setting)
    if isinstance(value, Mapping):  # handed on as JSON
        return Reading(setting)
    if argument.is_list:
        return Reading(Setting(value if isinstance(value, list) else [value], place))
    if argument.kind == "str" and not isinstance(value, str):
        value = str(value)
    try:
        made = from_file(argument, value, Written(place.key, place.where), True)
    except NotConverted as error:
        return Reading(setting, (error.problem,))
    return Reading(Setting(made.value, place), made.problems)
