"""The file of arguments that a script hands to its parser itself, wherever it has the path from.

`HfArgumentParser.parse_json_file`, `parse_yaml_file` and `parse_dict` (transformers/hf_argparser.py, 5.24.0) take every
argument from there, and none of the command line's flags. A path out of `sys.argv` is a word of the command line, and
whether it is one is seen there.
"""

from __future__ import annotations

import ast

from preflight.scripts.python.files import CallFound
from preflight.scripts.python.nodes import argument_of, unparse
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN, FlagOf, Known
from preflight.scripts.python.settings_objects import path_of
from preflight.setting import Place
from preflight.values import dataclass

PARSES_FILE = {"parse_json_file": "json_file", "parse_yaml_file": "yaml_file", "parse_dict": "args"}
"""Method of HfArgumentParser -> its parameter."""


@dataclass(frozen=True)
class ParsedFile:
    """What a script gives its parser in place of the command line."""

    call: Place
    path: str | None
    """As the script or the command line spells it; None where only running tells which file it is, or whether it is
    read at all."""


def parsed_file(reader: ScriptReader, flag_of: FlagOf) -> ParsedFile | None:
    """Return the file that the parser of a script is given for a command line; None where it is given none."""
    written = [f for f in reader.everywhere if f.name in PARSES_FILE and not _is_word(_given(f))]
    if not written:
        return None
    try:
        reader.read(flag_of)
    except (ValueError, RecursionError):
        return ParsedFile(reader.place(written[0]), None)
    nodes = {id(found.node) for found in written}
    runs = [found for found in reader.calls if id(found.node) in nodes]
    unsure = [found for found in reader.unsure if id(found.node) in nodes]
    if not runs and not unsure:
        return None
    paths = {None if found in unsure else _path(found, reader) for found in (*runs, *unsure)}
    return ParsedFile(reader.place((*runs, *unsure)[0]), paths.pop() if len(paths) == 1 else None)


def _given(found: CallFound) -> ast.expr | None:
    return argument_of(found.node, 0, PARSES_FILE[found.name])


def _is_word(node: ast.expr | None) -> bool:
    return node is not None and "sys.argv" in unparse(node)


def _path(found: CallFound, reader: ScriptReader) -> str | None:
    node = _given(found)
    if node is None:
        return None
    if found.name != "parse_dict":
        return path_of(node, found.scope, reader.evaluator)
    value = reader.evaluator.value(node, found.scope)
    entries = value.values() if isinstance(value, dict) else ()
    read = {each.place.document if isinstance(each, Known) else UNKNOWN for each in entries}
    path = read.pop() if len(read) == 1 else None
    return path if isinstance(path, str) and path != found.scope.path else None
