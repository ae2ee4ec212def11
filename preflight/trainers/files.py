"""Argument files of training scripts: TrlParser's `--config`, and a JSON or YAML path given instead of flags."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import field
from typing import TYPE_CHECKING, Any

from preflight.errors import BadInput, Problem
from preflight.formats.document import Document
from preflight.formats.load import read_document
from preflight.launch import LaunchCommand
from preflight.reading import Problems, Reading
from preflight.scripts.arguments.trainer_spellings import argument_fix
from preflight.scripts.arguments.trainer_tables import ArgumentTable
from preflight.scripts.arguments.trainer_values import NotConverted, Written, from_file
from preflight.setting import Place, Setting
from preflight.values import dataclass

if TYPE_CHECKING:
    from preflight.scripts.python.reader import ScriptReader

NUMBERS: Mapping[str, Callable[[str], int | float]] = {"float": float, "int": int}
BY_CONFIG, BY_WORD, BY_SCRIPT = "config", "word", "script"
"""TrlParser's `--config`; a path in place of the flags; the script itself, which tells its parser the path."""


@dataclass(frozen=True)
class ArgumentFile:
    """What an argument file says."""

    path: str
    """As the user spelled it."""
    given_by: str
    known: Mapping[str, Setting] = field(default_factory=dict)
    unknown: Mapping[str, Setting] = field(default_factory=dict)
    """Keys of the script's own dataclasses."""
    environment: Mapping[str, Setting] = field(default_factory=dict)
    """TrlParser's `env:`, exported inside every worker."""


def read_argument_file(
    path: str,
    stated_at: str,
    command: LaunchCommand,
    table: ArgumentTable,
    *,
    given_by: str,
    is_complete: bool,
    is_exact: bool,
    reader: ScriptReader | None,
) -> Reading[ArgumentFile]:
    """Return the settings of an argument file, with file:line places.

    `--config` is read as TrlParser does (text is converted, `env:` is exported); the others as
    HfArgumentParser.parse_json_file and parse_yaml_file do. `is_complete` says that the table has
    every argument of the script, so that any other key is a mistake. What stays text where a number
    belongs is one that the script of `reader` may convert.
    """
    try:
        document = read_document(command, path, stated_at=stated_at)
    except BadInput as error:
        return Reading(ArgumentFile(path, given_by), error.problems)
    problems = Problems(document.problems)
    is_trl = given_by == BY_CONFIG
    known: dict[str, Setting] = {}
    unknown: dict[str, Setting] = {}
    environment: dict[str, Setting] = {}
    for key, value in document.value.items():
        name = str(key)
        place = Place(document.kind, path, name, document.line((name,)))
        if is_trl and name == "env":
            environment = problems.take(_environment(document, value, place))
            continue
        argument = table.arguments.get(name)
        if argument is None:
            unknown[name] = Setting(value, place)
            problems.extend(_unknown_key(name, place, table, is_complete))
            continue
        written = Written(name, place.where, "error" if is_exact else "warning")
        try:
            reading = from_file(argument, value, written, converts_text=is_trl)
        except NotConverted as error:
            number = None if reader is None else _converted_by(reader, name, value)
            if number is None:
                problems.append(error.problem)
            else:
                known[name] = Setting(number, place)
            continue
        converted = problems.take(reading)
        if not reading.is_refused:
            known[name] = Setting(converted, place)
    return Reading(ArgumentFile(path, given_by, known, unknown, environment), tuple(problems))


def _converted_by(reader: ScriptReader, name: str, text: Any) -> int | float | None:
    """Return the number that a script makes of an argument which a file has as text; None where none does."""
    for node in reader.nodes if isinstance(text, str) else ():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 1:
            make, argument = NUMBERS.get(node.func.id), node.args[0]
            if make is not None and isinstance(argument, ast.Attribute) and argument.attr == name:
                with suppress(ValueError):
                    return make(text)
    return None


def _environment(document: Document, value: Any, place: Place) -> Reading[dict[str, Setting]]:
    if not isinstance(value, dict):
        wrong = f"env must be a mapping of variables, not {value!r}"
        fix = "write one variable a line below it"
        return Reading({}, (Problem(wrong, place.where, fix),))
    variables: dict[str, Setting] = {}
    for name, item in value.items():
        line = document.line(("env", str(name)))
        variable = Place(document.kind, place.document, f"env.{name}", line)
        variables[str(name)] = Setting(str(item), variable)
    return Reading(variables)


def _unknown_key(
    name: str, place: Place, table: ArgumentTable, is_complete: bool
) -> Iterator[Problem]:
    near = argument_fix(name, table.arguments)
    if is_complete:
        # TRL's own scripts pass fail_with_unknown_args=False.
        message = f"{name} is not an argument of TRL's script, which drops it without a word"
        yield Problem(message, place.where, near, "PF122", "warning")
    elif "-" in name and name.replace("-", "_") in table.arguments:
        spelling = name.replace("-", "_")
        message = f"{name} is not an argument name: in a file the spelling is {spelling}"
        yield Problem(message, place.where, near)
