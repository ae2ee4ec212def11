"""Argument files of training scripts: TrlParser's `--config`, and a JSON or YAML path given instead of flags."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from preflight.errors import BadInput, Problem
from preflight.formats.document import Document
from preflight.formats.load import read_document
from preflight.launch import LaunchCommand
from preflight.scripts.trainer_spellings import argument_fix
from preflight.scripts.trainer_tables import ArgumentTable
from preflight.scripts.trainer_values import NotConverted, Written, from_file
from preflight.setting import Place, Setting
from preflight.values import dataclass


@dataclass
class ArgumentFile:
    """What an argument file says; filled while reading."""

    path: str
    """As the user spelled it."""
    is_config: bool = False
    """TrlParser's `--config`, and not a file in place of the flags."""
    known: dict[str, Setting] = field(default_factory=dict)
    unknown: dict[str, Setting] = field(default_factory=dict)
    """Keys of the script's own dataclasses."""
    environment: dict[str, Setting] = field(default_factory=dict)
    """TrlParser's `env:`, exported inside every worker."""
    problems: list[Problem] = field(default_factory=list)


def read_argument_file(
    path: str,
    stated_at: str,
    command: LaunchCommand,
    table: ArgumentTable,
    *,
    is_trl: bool,
    is_complete: bool,
    is_exact: bool,
) -> ArgumentFile:
    """Return the settings of an argument file, with file:line places.

    `is_trl` reads it as TrlParser does (text is converted, `env:` is exported); otherwise as
    HfArgumentParser.parse_json_file and parse_yaml_file do. `is_complete` says that the table has
    every argument of the script, so that any other key is a mistake.
    """
    file = ArgumentFile(path, is_trl)
    try:
        document = read_document(command, path, stated_at=stated_at)
    except BadInput as error:
        file.problems.extend(error.problems)
        return file
    file.problems.extend(document.problems)
    for key, value in document.value.items():
        name = str(key)
        place = Place(document.kind, path, name, document.line((name,)))
        if is_trl and name == "env":
            _read_environment(file, document, value, place)
            continue
        argument = table.arguments.get(name)
        if argument is None:
            file.unknown[name] = Setting(value, place)
            file.problems.extend(_unknown_key(name, place, table, is_complete))
            continue
        written = Written(name, place.where, "error" if is_exact else "warning")
        try:
            converted, notes = from_file(argument, value, written, converts_text=is_trl)
        except NotConverted as error:
            file.problems.append(error.problem)
            continue
        file.problems.extend(notes)
        if any(note.severity == "error" for note in notes):
            continue
        file.known[name] = Setting(converted, place)
    return file


def _read_environment(file: ArgumentFile, document: Document, value: Any, place: Place) -> None:
    if not isinstance(value, dict):
        file.problems.append(
            Problem(
                f"env must be a mapping of variables, not {value!r}",
                place.where,
                "write one variable a line below it",
            )
        )
        return
    for name, item in value.items():
        key = f"env.{name}"
        line = document.line(("env", str(name)))
        file.environment[str(name)] = Setting(str(item), Place(document.kind, file.path, key, line))


def _unknown_key(name: str, place: Place, table: ArgumentTable, is_complete: bool) -> list[Problem]:
    near = argument_fix(name, table.arguments)
    if is_complete:
        # TRL's own scripts pass fail_with_unknown_args=False.
        message = f"{name} is not an argument of TRL's script, which drops it without a word"
        return [Problem(message, place.where, near, "PF122", "warning")]
    if "-" in name and name.replace("-", "_") in table.arguments:
        return [
            Problem(
                f"{name} is not an argument name: in a file the spelling is {name.replace('-', '_')}",
                place.where,
                near,
            )
        ]
    return []
