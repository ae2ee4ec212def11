"""TOML files of a launch: every value that is no table by its dotted key, with its line."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from preflight.errors import BadInput
from preflight.formats.load import launch_text, refuse_long
from preflight.launch import LaunchCommand
from preflight.lazy_pattern import lazy_pattern
from preflight.setting import Place, Setting

KEY = lazy_pattern(r"\s*(?:\[([^\[\]]+)\]|([A-Za-z0-9_.\"-]+)\s*=)")


def toml_leaves(command: LaunchCommand, path: str, stated_at: str) -> dict[str, Setting]:
    """Return the values of a file; raise BadInput where it cannot be read, or is no TOML."""
    # tomllib came with Python 3.11; tomli is the same code for 3.10.
    toml: Any = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    text = launch_text(command, path, stated_at)
    refuse_long(text, path)
    try:
        values = toml.loads(text)
    except RecursionError as error:
        raise BadInput.of(path, "is nested too deeply", "", "PF141") from error
    except ValueError as error:
        line = re.search(r"line (\d+)", str(error))
        where = f"{path}:{line[1]}" if line else path
        raise BadInput.one(f"{path} is not TOML: {error}", where, "", "PF141") from error
    lines = _lines(text)
    return {
        key: Setting(value, Place("toml", path, key, lines.get(key)))
        for key, value in _leaves("", values)
    }


def _leaves(section: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        key = f"{section}.{name}" if section else name
        if isinstance(value, Mapping):
            yield from _leaves(key, value)
        else:
            yield key, value


def _lines(text: str) -> dict[str, int]:
    """Return dotted key -> line; of what a line-by-line look tells."""
    lines: dict[str, int] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        match = KEY.match(line)
        if match is None:
            continue
        if match[1] is not None:
            section = match[1].strip().replace('"', "")
            lines.setdefault(section, number)
        else:
            key = match[2].replace('"', "")
            lines.setdefault(f"{section}.{key}" if section else key, number)
    return lines
