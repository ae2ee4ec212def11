"""Whether the arguments that a Trainer is handed are those that the script's own calls make, with what it sets on them."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from preflight.scripts.python.class_meanings import PARSES_DATACLASSES
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.nodes import last_name
from preflight.scripts.python.parsed_file import PARSES_FILE
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.settings_objects import class_of_command
from preflight.scripts.settings.followed_models import followed
from preflight.scripts.settings.given_keywords import given_by
from preflight.setting import Place

COPIES = ("replace", "deepcopy", "copy")
"""What gives back the arguments that it is given; what `replace` changes is read by itself."""


def changed_arguments(reader: ScriptReader) -> Place | None:
    """Return where a function that is not read gives the Trainer its arguments, or sets names on them that only running
    tells."""
    for call in reader.possible_trainers:
        for node, scope in given_by(reader, call, "args"):
            for made in followed(reader, node, scope):
                if made is not None and not _is_read(reader, made):
                    return reader.place(made)
            for found in _sets_unknown(reader, node.id) if isinstance(node, ast.Name) else ():
                return reader.place(found)
    return None


def _is_read(reader: ScriptReader, made: CallFound) -> bool:
    name = made.name
    return (
        name in reader.trainer_names()
        or name in (*PARSES_DATACLASSES, *PARSES_FILE, *COPIES, "parse")
        or name in reader.classes
        or class_of_command(made.node) is not None
    )


def _sets_unknown(reader: ScriptReader, name: str) -> Iterator[CallFound]:
    """Yield the `setattr(args, key, value)` whose key is no text of the script."""
    for found in reader.possible("setattr"):
        owner, *rest = (*found.node.args, None)
        if last_name(owner) == name and rest and not isinstance(rest[0], ast.Constant):
            yield found
